"""The table of commands -> a Typer application, whose commands are built when they are named.

So the help of one command imports one stage, and that of llmctl itself none.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llmctl.cli.forms import Form, make_command
from llmctl.cli.page import HELP, Page, Row, describe, first_line, render, settings
from llmctl.config import choose, knobs
from llmctl.errors import ConfigError
from llmctl.registry import load, look_up

# Panel of the help page -> words of the command -> address of its class of knobs, summary.
Table = Mapping[str, Mapping[str, tuple[str, str]]]

ABOUT = """Raw text in, a language model that answers out.

    llmctl collect demo
    llmctl tokenize
    llmctl pretrain --minutes 3
    llmctl generate "The lion is"

Each step takes what the one before made. `llmctl COMMAND --help` shows what a command can be
told; `llmctl --install-completion` teaches the commands to your shell."""

OPTIONS = (Row("--version", "Show the version"), HELP)


class Group(TyperGroup):
    """A command of commands.

    `find` builds the one of a name, or raises ConfigError; `draw` makes the help page.
    """

    def __init__(
        self,
        words: Iterable[str],
        names: Iterable[str],
        find: Callable[[str], Any],
        draw: Callable[[], Page],
        **traits: Any,
    ) -> None:
        super().__init__(name=" ".join(words), context_settings=settings(), **traits)
        self.names, self.find, self.draw = list(names), find, draw

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return self.names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Build the command of that name."""
        try:
            return self.find(cmd_name)
        except ConfigError:
            if ctx.resilient_parsing:
                return None
            raise

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Ask for a name where none is given."""
        if not args and not ctx.resilient_parsing:
            hint = f"one of {', '.join(self.names)}; see `{ctx.command_path} --help`"
            raise ConfigError(f"`{ctx.command_path}` needs one more word", hint=hint)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        formatter.write(render(self.draw()))


def build_app(table: Table) -> Group:
    """The application whose commands are the rows of a table; "a b" is the command `b` of `a`."""
    rows = {name: row for panel in table.values() for name, row in panel.items()}
    heads = {name.partition(" ")[0]: address for name, (address, _) in rows.items()}

    def find(word: str) -> Any:
        family = {name: row for name, row in rows.items() if name.startswith(f"{word} ")}
        if family:
            return _family(word, family, frozenset(heads))
        cls = look_up(heads, word, kind="command", group="commands")
        return _command((word,), cls, frozenset(heads))

    def draw() -> Page:
        panels = {title: _listed(members) for title, members in table.items()}
        return Page("llmctl COMMAND [OPTIONS]", ABOUT, {**panels, "Options": OPTIONS})

    return Group(("llmctl",), heads, find, draw, params=_options())


def _options() -> Any:
    """What may stand in the place of a command, as Typer makes it."""

    def show(value: bool) -> None:
        if value:
            made = next(load("importlib.metadata:distributions")(name="llmctl"), None)
            typer.echo(f"llmctl {made.version if made else '(not installed)'}")
            raise typer.Exit

    app = typer.Typer()
    about = typer.Option("--version", is_eager=True, callback=show)

    @app.callback()
    def _llmctl(version: Annotated[bool, about] = False) -> None:
        pass

    return typer.main.get_command(app).params


def _family(word: str, rows: Mapping[str, tuple[str, str]], tables: frozenset[str]) -> Group:
    members = {name.removeprefix(f"{word} "): row for name, row in rows.items()}
    addresses = {name: address for name, (address, _) in members.items()}

    def find(member: str) -> Any:
        cls = look_up(addresses, member, kind=f"`{word}` command")
        return _command((word, member), cls, tables)

    def draw() -> Page:
        usage = f"llmctl {word} COMMAND [OPTIONS]"
        return Page(usage, "", {"Commands": _listed(members), "Options": [HELP]})

    return Group((word,), members, find, draw)


def _command(words: tuple[str, ...], cls: type, tables: frozenset[str]) -> Any:
    chooser = next((leaf for leaf in knobs(cls) if leaf.knob.choices_from), None)
    if chooser is None:
        return make_command(Form(words, cls, tables))
    rows: Mapping[str, str] = load(str(chooser.knob.choices_from))

    def find(row: str) -> Any:
        choose(chooser, row)
        return make_command(Form((*words, row), cls, tables, chooser))

    def draw() -> Page:
        usage = f"llmctl {' '.join(words)} {chooser.key.upper()} [OPTIONS]"
        listed = [Row(name, first_line(load(address))) for name, address in rows.items()]
        panels = {f"{chooser.key.capitalize()}s": listed, "Options": [HELP]}
        return Page(usage, describe(cls), panels)

    return Group(words, rows, find, draw)


def _listed(rows: Mapping[str, tuple[str, str]]) -> list[Row]:
    return [Row(name, summary) for name, (_, summary) in rows.items()]
