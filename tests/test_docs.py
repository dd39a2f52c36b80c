import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from llmctl.data.sources import SOURCES
from llmctl.stages import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", ".github/CONTRIBUTING.md")
STATUSES = {"verified here", "on fixtures only", "never run"}


def shell_lines(first_word: str) -> list[str]:
    """The lines of the documents' bash blocks that begin with a word, without their comments."""
    lines: list[str] = []
    for document in DOCUMENTS:
        for block in re.findall(
            r"^```bash\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.S | re.M
        ):
            lines += [shlex.join(shlex.split(line, comments=True)) for line in block.splitlines()]
    return sorted({line for line in lines if line.startswith(f"{first_word} ")})


def readme_rows() -> list[list[str]]:
    """The table of commands: name with arguments, what it makes, status."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("\n## Commands\n\n")[1].split("\n\n")[0]
    return [
        [cell.strip() for cell in row.strip("|").split("|")] for row in section.splitlines()[2:]
    ]


def test_the_readme_lists_every_command_and_no_other():
    commands = {name for panel in COMMANDS.values() for name in panel} - {"collect"}
    commands |= {f"collect {source}" for source in SOURCES}

    listed = {re.sub(r"[`A-Z…]", "", name).strip() for name, _, _ in readme_rows()}

    assert listed == commands


def test_the_readme_says_of_every_command_whether_it_was_tried():
    assert {status for _, _, status in readme_rows()} <= STATUSES


@pytest.mark.parametrize("line", shell_lines("llmctl"))
def test_a_command_in_the_documents_is_understood(line: str):
    words = [sys.executable, "-m", *shlex.split(line), "--help"]

    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("line", shell_lines("make"))
def test_a_make_target_in_the_documents_exists(line: str):
    done = subprocess.run(
        [*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_map_has_a_line_for_every_file_and_no_other():
    rooms = (ROOT / "llmctl/README.md").read_text(encoding="utf-8").split("\n## The rooms\n")[1]
    listed = re.findall(r"(?:^ *|  )(\w+\.py)\b", rooms.split("```")[1], re.M)
    files = [path.name for path in (ROOT / "llmctl").rglob("*.py")]

    assert sorted(listed) == sorted(name for name in files if name != "__init__.py")
