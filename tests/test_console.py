import functools
import os
import pty
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmctl.console import Console


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def console(clock: Clock) -> Console:
    return Console(seconds=10, clock=clock)


@dataclass
class Artifact:
    label: str = "tokens/demo"


def test_a_stage_ends_with_what_was_made_and_what_comes_next(
    console: Console, capsys: pytest.CaptureFixture[str]
):
    console.made(Artifact(), "1.2 M tokens")
    console.next("llmctl pretrain --from demo")

    said = capsys.readouterr()
    assert said.err == "made tokens/demo (1.2 M tokens)\nnext: llmctl pretrain --from demo\n"
    assert said.out == ""


def test_nothing_said_is_read_as_markup(console: Console, capsys: pytest.CaptureFixture[str]):
    console.say("[red]a[/red] :smile:")
    console.warn("[/]")
    console.table("[b]", ("[i]",), [("[red]",)])

    assert capsys.readouterr().err == "[red]a[/red] :smile:\nwarning: [/]\n[b]\n[i]  \n[red]\n"


def test_a_long_line_stays_whole_where_there_is_no_terminal(
    console: Console, capsys: pytest.CaptureFixture[str]
):
    console.say("word " * 100)

    assert len(capsys.readouterr().err.splitlines()) == 1


def test_quiet_leaves_warnings_errors_and_data(
    console: Console, capsys: pytest.CaptureFixture[str]
):
    console.configure(is_quiet=True)

    console.say("talk")
    console.note("talk")
    console.made(Artifact())
    console.next("talk")
    console.table("talk", ("a",), [("1",)])
    with console.status("talk"), console.live() as line:
        line.update("talk")
    console.warn("careful")
    console.fail("broken")
    console.data("data")

    assert tuple(capsys.readouterr()) == ("data\n", "warning: careful\nerror: broken\n")


def test_json_leaves_no_data(console: Console, capsys: pytest.CaptureFixture[str]):
    console.configure(is_json=True)

    console.data("data")
    console.table("data", ("a",), [("1",)], is_data=True)
    console.tree("data", [])

    assert capsys.readouterr().out == ""


def test_a_table_aligns_numbers_to_the_right(console: Console, capsys: pytest.CaptureFixture[str]):
    rows = [("tokens/demo", "1.2 M", "3.4 MB"), ("x", "950", "12 MB"), ("y", "", "9 B")]

    console.table("Artifacts", ("artifact", "tokens", "on disk"), rows, is_data=True)

    assert capsys.readouterr().out == textwrap.dedent("""\
        Artifacts
        artifact     tokens  on disk
        tokens/demo   1.2 M   3.4 MB
        x               950    12 MB
        y                        9 B
    """)


def test_a_piped_table_keeps_long_cells_whole(console: Console, capsys: pytest.CaptureFixture[str]):
    console.table("", ("path",), [("a/" * 200,)], is_data=True)

    assert capsys.readouterr().out.splitlines()[1] == "a/" * 200


def test_a_tree_is_drawn_below_its_root(console: Console, capsys: pytest.CaptureFixture[str]):
    leaf = {"label": "corpora/a", "inputs": []}
    tokens = {"label": "tokens/a", "inputs": [leaf, leaf]}

    console.tree("models/base", [tokens, leaf])

    assert capsys.readouterr().out == textwrap.dedent("""\
        models/base
        ├─ tokens/a
        │  ├─ corpora/a
        │  └─ corpora/a
        └─ corpora/a
    """)


def test_progress_is_said_at_most_once_in_ten_seconds_where_there_is_no_terminal(
    console: Console, clock: Clock, capsys: pytest.CaptureFixture[str]
):
    with console.progress("reading", 1000, "files") as bar:
        for _ in range(25):
            clock.now += 1
            bar.advance(10)

    assert capsys.readouterr().err.splitlines() == [
        "reading   10%  100 files of 1 k files  10 files/s  1 min 30 s left",
        "reading   20%  200 files of 1 k files  10 files/s  1 min 20 s left",
    ]


def test_progress_that_was_taken_up_knows_how_fast_it_is_now(
    console: Console, clock: Clock, capsys: pytest.CaptureFixture[str]
):
    with console.progress("reading", 2e9, "B", done=1e9) as bar:
        clock.now += 10
        bar.advance(1e8)

    expected = "reading   55%  1.1 GB of 2 GB  10 MB/s  1 min 30 s left\n"
    assert capsys.readouterr().err == expected


def test_a_live_line_says_the_first_the_last_and_one_in_ten_seconds(
    console: Console, clock: Clock, capsys: pytest.CaptureFixture[str]
):
    with console.live() as line:
        for step in range(1, 26):
            line.update(f"step {step}")
            clock.now += 1

    said = capsys.readouterr().err.splitlines()
    assert said == ["step 1", "step 11", "step 21", "step 25"]


TALK = """
    import time
    from llmctl.console import console

    with console.progress("reading", 10, "files") as bar:
        for _ in range(10):
            time.sleep(0.02)
            bar.advance()
    with console.live() as line:
        for step in range(10):
            time.sleep(0.02)
            line.update(f"step {step}")
    console.say("word " * 20)
    console.next("word " * 20)
    console.fail("no `a`", "make it")
"""


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """What a terminal is sent by the talk above."""

    @functools.cache
    def run(**environment: str) -> str:
        ours, theirs = pty.openpty()
        path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ["PYTHONPATH"]))
        plain = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "PYTHONPATH": path}
        inherited = {key: one for key, one in os.environ.items() if key not in ("NO_COLOR", "CI")}
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(TALK)],
            stderr=theirs,
            cwd=tmp_path_factory.getbasetemp(),
            env=inherited | plain | environment,
        )
        os.close(theirs)
        sent = b""
        while chunk := _read(ours):
            sent += chunk
        os.close(ours)
        assert process.wait() == 0
        return sent.decode()

    return run


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so where the other side is closed
        return b""


def test_a_terminal_shows_a_bar_that_vanishes_and_a_line_that_stays(
    terminal: Callable[..., str],
):
    sent = terminal()

    assert "━" in sent
    assert "\x1b[2Kstep 9\r\nword" in sent


def test_a_terminal_is_sent_words_wrapped_but_a_command_whole(terminal: Callable[..., str]):
    lines = [line.rstrip() for line in terminal(NO_COLOR="1").split("\r\n")]

    assert [line.count("word") for line in lines if "word" in line] == [16, 4, 20]


def test_an_error_is_red_and_its_hint_cyan(terminal: Callable[..., str]):
    expected = "\x1b[1;31merror: \x1b[0mno `a`\r\n\r\n\x1b[36mhint: \x1b[0mmake it\r\n"

    assert terminal().endswith(expected)


def test_a_terminal_without_colour_is_sent_none(terminal: Callable[..., str]):
    assert "\x1b[3" not in terminal(NO_COLOR="1")


def test_a_terminal_that_cannot_move_its_cursor_is_sent_plain_lines(
    terminal: Callable[..., str],
):
    lines = terminal(TERM="dumb").split("\r\n")

    assert lines[:2] == ["step 0", "step 9"]
