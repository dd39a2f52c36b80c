import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from llmctl.cli.page import first_line
from llmctl.data.sources import SOURCES
from llmctl.registry import load
from llmctl.stages import COMMANDS

ROWS = {name: row for panel in COMMANDS.values() for name, row in panel.items()}
GROUPS = sorted({name.split()[0] for name in ROWS if " " in name})
PAGES = ["", *ROWS, *GROUPS, *(f"collect {source}" for source in SOURCES)]

ENGINES = {"datasets", "matplotlib", "numpy", "pyarrow", "tokenizers", "torch", "transformers"}
# Each of these takes a good part of the time of a help page, or more than all of it.
SLOW = {"asyncio", "charset_normalizer", "ftfy", "multiprocessing", "pydantic", "rich"}


@pytest.fixture(scope="module")
def ask() -> Callable[[str], tuple[str, set[str]]]:
    """Print a help page on a plain terminal of 80 columns; its text and the packages loaded."""
    pages: dict[str, tuple[str, set[str]]] = {}
    plain = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}

    def ask(words: str) -> tuple[str, set[str]]:
        if words not in pages:
            command = [sys.executable, "-X", "importtime", "-m", "llmctl", *words.split(), "--help"]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env=os.environ | plain
            )
            loaded = re.findall(r"^import time:.*\| +(\w+)", done.stderr, re.MULTILINE)
            pages[words] = (done.stdout, set(loaded))
        return pages[words]

    return ask


@pytest.mark.parametrize("words", PAGES)
def test_the_help_page_is_as_it_was_reviewed(
    words: str, ask: Callable[[str], tuple[str, set[str]]], golden: Callable[[str, str], None]
):
    golden(f"help/{'-'.join(['llmctl', *words.split()])}.txt", ask(words)[0])


@pytest.mark.parametrize("words", PAGES)
def test_help_loads_no_engine_and_nothing_slow(
    words: str, ask: Callable[[str], tuple[str, set[str]]]
):
    unwanted = ask(words)[1] & (ENGINES | SLOW)

    assert unwanted == set()


@pytest.mark.parametrize("words", PAGES)
def test_a_help_page_shows_no_more_flags_than_a_person_takes_in(
    words: str, ask: Callable[[str], tuple[str, set[str]]]
):
    own = ask(words)[0].partition("\nEvery command\n")[0]

    flags = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", own, re.MULTILINE))
    assert len(flags - {"--name", "--force", "--dry-run"}) <= 15


@pytest.mark.parametrize("words", PAGES)
def test_a_help_page_fits_eighty_columns(words: str, ask: Callable[[str], tuple[str, set[str]]]):
    assert max(map(len, ask(words)[0].splitlines())) <= 80


@pytest.mark.parametrize("name", ROWS)
def test_the_list_of_commands_says_what_the_page_of_a_command_says(name: str):
    address, summary = ROWS[name]

    assert summary == first_line(load(address))
