import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from llmctl.data.labeled.classes import read_classes
from llmctl.data.labeled.conversations import read_conversations
from llmctl.errors import LlmctlError

CASES = runpy.run_path(str(Path(__file__).with_name("odd_label_files.py")))["cases"]()
READERS = {"classes": read_classes, "conversations": read_conversations}
# A line of a file, or something by its name: a column, a label, the file.
PLACE = re.compile(r"[\w.]+:\d+|`[^`]+`|--\w+")


def outcome(case: Any, folder: Path) -> tuple[bool, str]:
    path = case.write(folder)
    try:
        found = READERS[case.kind](path, **case.knobs)
    except LlmctlError as refusal:
        return False, f"{refusal.message}\n{refusal.hint}"
    return True, "\n".join(found.remarks)


def test_there_are_at_least_200_odd_files():
    assert len(CASES) >= 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.title}")
def test_an_odd_file_is_read_with_what_was_assumed_or_refused_by_name(case, tmp_path):
    accepted, told = outcome(case, tmp_path)

    assert case.accepted in (None, accepted), told
    assert [part for part in case.says if part not in told] == [], told
    assert PLACE.search(told), told
