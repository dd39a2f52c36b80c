"""Talk to a person on stderr, data for a pipe on stdout; nothing else in the house prints.

    console.say("reading 3 files")                          talk, silent with --quiet
    console.made(artifact, "1.2 M tokens")                  the lines that end a stage:
    console.next("llmctl pretrain --from demo")             what is there, what comes next
    console.data("Paris")                                   data, silent with --json
    with console.progress("reading", 3, "files") as bar:    bar.advance()
    with console.live() as line:                            line.update("step 7  loss 3.21")

On a terminal lines are wrapped, coloured and updated in place. Elsewhere each is printed whole,
and what would be updated in place is said now and then. Text is never read as markup.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from llmctl.figures import amount, duration, rate, readable
from llmctl.registry import load

READER_LEFT = 141  # the exit code that a shell reports for a program that SIGPIPE ended
UNBOUNDED = 10_000  # columns, where there is no terminal
SECONDS_PER_FRAME = 0.1
WIDEST_BAR, NARROWEST_BAR = 40, 8
FIRST_COMBINING = "\u0300"  # what is printed below it takes one column each
NUMBER = re.compile(r"[-+]?[\d.,]+ ?\S{0,5}|-?")

# A stretch of text and its style.
Piece = tuple[str, str]


class Console:
    """The one place where llmctl speaks; `console` is the one that the house shares."""

    def __init__(
        self, *, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`seconds` is the least time between two lines of progress where there is no terminal."""
        self.seconds = seconds
        self.clock = clock
        self.configure()

    def hush(self) -> None:
        """Say nothing but how this process fails: another one speaks for it."""
        self.is_quiet = self.is_hushed = True

    def configure(self, *, is_quiet: bool = False, is_json: bool = False) -> None:
        """Choose how to speak, from here on."""
        self.is_hushed = False
        self.is_quiet = is_quiet
        self.is_json = is_json
        self._rich: Any = None

    @property
    def rich(self) -> Any:
        """Rich's console on stderr, made when there is something to say."""
        if self._rich is None:
            self._rich = _rich_console(stderr=True)
        return self._rich

    @property
    def is_live(self) -> bool:
        """Whether lines can be updated in place."""
        return self.rich.is_terminal and not self.rich.is_dumb_terminal

    def say(self, text: str, *, style: str = "") -> None:
        """A line of talk."""
        if not self.is_quiet:
            self._line((text, style))

    def note(self, text: str) -> None:
        """A line of talk that may be passed over."""
        self.say(text, style="dim")

    def warn(self, text: str) -> None:
        """A line that --quiet does not silence."""
        if self.is_hushed:
            return
        self._line(("warning: ", "yellow"), (text, ""))

    def fail(self, message: str, hint: str | None = None) -> None:
        """What went wrong, and what to do."""
        self._line(("error: ", "bold red"), (message, ""))
        if hint:
            self._line(("\nhint: ", "cyan"), (hint, ""))

    def marked(self, pieces: Sequence[tuple[str, bool]]) -> None:
        """A text of which some pieces are marked: in colour, else between brackets."""
        if self.is_quiet:
            return
        has_colour = self.rich.is_terminal and not self.rich.no_color
        told: list[Piece] = []
        for is_marked, some in itertools.groupby(pieces, key=lambda piece: piece[1]):
            text = "".join(piece[0] for piece in some)
            if has_colour:
                told.append((text, "green" if is_marked else "dim"))
            else:
                told.append((f"[{text}]" if is_marked else text, ""))
        self._line(*told)

    def made(self, artifact: Any, what: str = "") -> None:
        """What there is now, and what is in it."""
        if not self.is_quiet:
            self._line(("made ", "green"), (f"{artifact.label}{f' ({what})' if what else ''}", ""))

    def already_made(self, artifact: Any) -> None:
        """What was there before, equal to what was asked for."""
        self.say(f"{artifact.label} is already made; `--force` makes it anew")

    def next(self, command: str) -> None:
        """The command that comes next, on one line however narrow the terminal is."""
        if not self.is_quiet:
            self._line(("next: ", "cyan"), (command, ""), is_whole=True)

    def ask(self) -> None:
        """Show on the terminal that it is the user's turn."""
        self.rich.print(_text(("> ", "cyan")), end="")

    def data(self, text: str = "", *, end: str = "\n") -> None:
        """Text for stdout: what a script reads."""
        if not self.is_json:
            _write(text + end)

    def sentence(self, text: str, *, mark: str = "") -> None:
        """A sentence for stdout, which a terminal breaks between words."""
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNBOUNDED
        wrapper = textwrap.TextWrapper(
            width, initial_indent=mark, subsequent_indent=" " * len(mark)
        )
        wrapper.break_long_words = wrapper.break_on_hyphens = False
        self.data(wrapper.fill(text))

    def points(self, sentences: Sequence[str]) -> None:
        """Sentences for stdout, one a point, after an empty line; nothing where there are none."""
        if sentences:
            self.data()
        for text in sentences:
            self.sentence(text, mark="* ")

    def answer(self, payload: Mapping[str, Any]) -> None:
        """The one JSON object of `--json`."""
        is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        _write(json.dumps(payload, ensure_ascii=not is_unicode, allow_nan=False) + "\n")

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        is_data: bool = False,
    ) -> None:
        """A table of talk, or with `is_data` on stdout; columns of numbers are right-aligned."""
        if self.is_json if is_data else self.is_quiet:
            return
        cells = [[str(cell) for cell in row] for row in rows]
        is_plain = all(cell.isprintable() for row in cells for cell in row)
        if is_data and is_plain and not sys.stdout.isatty():
            _write(_aligned(title, columns, cells))
            return
        is_headed = any(columns)
        grid = load("rich.table:Table")(
            box=None, pad_edge=False, header_style="dim", show_header=is_headed
        )
        for index, column in enumerate(columns):
            justify = "right" if _holds_numbers(cells, index) else "left"
            grid.add_column(column, justify=justify, overflow="fold")
        for row in cells:
            grid.add_row(*(_text((cell, "")) for cell in row))
        heading = [_text((title, "bold"))] if title else []
        if not is_data:
            self.rich.print(*heading, grid, sep="\n")
            return
        rich = _rich_console(stderr=False)
        with rich.capture() as captured:
            rich.print(*heading, grid, sep="\n")
        _write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def plan(self, label: str, plan: Mapping[str, Any]) -> None:
        """What a command would make, were it not for `--dry-run`."""
        rows = [(key, readable(value)) for key, value in plan.items()]
        self.table(f"would make {label}", ("", ""), rows)

    def tree(self, label: str, branches: Sequence[Mapping[str, Any]]) -> None:
        """Something on stdout and, indented below it, its branches: `label` and `inputs` each."""
        self.data("\n".join([label, *_twigs(branches)]))

    @contextlib.contextmanager
    def status(self, text: str) -> Generator[None, None, None]:
        """What goes on meanwhile, where nobody can say how long it will take."""
        if self.is_quiet or not self.is_live:
            self.say(text)
            yield
        else:
            with self.rich.status(_text((text, ""))):
                yield

    @contextlib.contextmanager
    def live(self) -> Generator["Line", None, None]:
        """A line that tells the latest; what it told last stays."""
        line = Line(self, last=-math.inf)
        try:
            yield line
        finally:
            line.close()
            line.stay()

    @contextlib.contextmanager
    def progress(
        self, title: str, total: float | None = None, unit: str = "", *, done: float = 0
    ) -> Generator["Progress", None, None]:
        """A bar that vanishes at the end; bytes are of unit `B`, `done` is what was done before."""
        now = self.clock()
        line = Line(self, last=now)
        try:
            yield Progress(line, title, total, unit, done=done, fresh=0, since=now)
        finally:
            line.close()

    def _line(self, *pieces: Piece, is_whole: bool = False) -> None:
        self.rich.print(_text(*pieces), soft_wrap=is_whole)


class Line:
    """A line that is updated in place on a terminal, and said now and then elsewhere."""

    def __init__(self, console: Console, *, last: float) -> None:
        self.console = console
        self._last = last
        self._latest = self._said = ""
        self._live: Any = None

    @property
    def is_due(self) -> bool:
        """Whether an update would be shown now."""
        pause = self.console.clock() - self._last
        if self.console.is_quiet or pause < SECONDS_PER_FRAME:
            return False
        return pause >= self.console.seconds or self.console.is_live

    def update(self, text: str, *drawing: Piece) -> None:
        """Tell `text`; a terminal shows the drawing of it, if there is one."""
        self._latest = text
        if not self.is_due:
            return
        self._last = self.console.clock()
        if self.console.is_live:
            self._draw(*(drawing or ((text, ""),)))
        else:
            self.stay()

    def stay(self) -> None:
        """Say for good what was told last."""
        if self._latest != self._said:
            self.console.say(self._latest)
            self._said = self._latest

    def close(self) -> None:
        """Take the line off the terminal."""
        if self._live is not None:
            self._live.stop()

    def _draw(self, *pieces: Piece) -> None:
        if self._live is None:
            options = {"auto_refresh": False, "transient": True, "redirect_stdout": False}
            self._live = load("rich.live:Live")(console=self.console.rich, **options)
            self._live.start()
        self._live.update(_text(*pieces, no_wrap=True, overflow="ellipsis"), refresh=True)


@dataclasses.dataclass(slots=True)
class Progress:
    """How much of some work is done: `done` in all, `fresh` of it since the clock said `since`."""

    line: Line
    title: str
    total: float | None
    unit: str
    done: float
    fresh: float
    since: float

    def advance(self, more: float = 1) -> None:
        """So much more is done."""
        self.done += more
        self.fresh += more
        if self.line.is_due:
            tail = "  ".join(self._figures())
            self.line.update(f"{self.title}  {tail}", *self._drawing(tail))

    def _figures(self) -> Iterator[str]:
        seconds = self.line.console.clock() - self.since
        done = amount(self.done, self.unit)
        if not self.total:
            yield done
        else:
            yield f"{min(self.done / self.total, 1):4.0%}"
            yield f"{done} of {amount(self.total, self.unit)}"
        if self.fresh and seconds:
            yield rate(self.fresh, seconds, self.unit)
            if self.total:
                left = max(self.total - self.done, 0) * seconds / self.fresh
                yield f"{duration(left)} left"

    def _drawing(self, tail: str) -> Iterator[Piece]:
        rich = self.line.console.rich
        width = min(rich.width - len(self.title) - len(tail) - 4, WIDEST_BAR)
        yield f"{self.title}  ", ""
        if self.total and width >= NARROWEST_BAR:
            full, empty = "━─" if rich.encoding.startswith("utf") else "#-"
            share = round(width * min(self.done / self.total, 1))
            yield full * share, "green"
            yield f"{empty * (width - share)}  ", "dim"
        yield tail, ""


def _rich_console(*, stderr: bool) -> Any:
    is_bounded = (sys.stderr if stderr else sys.stdout).isatty()
    traits: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    width = None if is_bounded else UNBOUNDED
    return load("rich.console:Console")(stderr=stderr, width=width, **traits)


def _text(*pieces: Piece, **traits: Any) -> Any:
    return load("rich.text:Text").assemble(*pieces, **traits)


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more as it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(READER_LEFT) from None


def _holds_numbers(cells: Sequence[Sequence[str]], column: int) -> bool:
    return all(NUMBER.fullmatch(row[column]) for row in cells)


def _aligned(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table for a pipe, as Rich would write it: loading Rich takes 40 ms."""
    lines = [*([columns] if any(columns) else []), *cells]
    widths = [max((_columns(line[index]) for line in lines), default=0) for index, _ in
              enumerate(columns)]  # fmt: skip
    are_numbers = [_holds_numbers(cells, index) for index, _ in enumerate(columns)]

    def told(line: Sequence[str]) -> str:
        padded: list[str] = []
        for cell, width, is_number in zip(line, widths, are_numbers, strict=True):
            blank = " " * (width - _columns(cell))
            padded.append(blank + cell if is_number else cell + blank)
        return "  ".join(padded).rstrip()

    return "".join(f"{line}\n" for line in [*([title] if title else []), *map(told, lines)])


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if all(character < FIRST_COMBINING for character in text):
        return len(text)
    return load("rich.cells:cell_len")(text)


def _twigs(branches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for index, branch in enumerate(branches):
        is_last = index == len(branches) - 1
        yield f"{'└─' if is_last else '├─'} {branch['label']}"
        for twig in _twigs(branch["inputs"]):
            yield f"{' ' if is_last else '│'}  {twig}"


console = Console()
