"""One command: the class of knobs that its command line fills in -> a Typer command.

Invoked, the command runs nothing: it returns a `Call`, whose config is made of
defaults < TOML < flags.
"""

import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand

from llmctl import toml
from llmctl.cli.flags import Flag, demand, overlay, parameter, spread
from llmctl.cli.page import HELP, Page, Row, describe, first_line, render, settings
from llmctl.config import Leaf, choose, from_dict, knob, knobs
from llmctl.errors import ConfigError
from llmctl.registry import suggest

EVERY = "Every command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What every command takes beside its own knobs: where to work and how to speak."""

    workspace: Path | None = knob(
        None,
        flag="-w, --workspace",
        metavar="DIR",
        help="Where artifacts live (default: $LLMCTL_WORKSPACE, else ./workspace)",
    )
    config: Path | None = knob(
        None, metavar="FILE", help="Read knobs from a TOML file; flags win over it"
    )
    show_config: bool = knob(False, help="Print all knobs as that TOML, and stop")
    json: bool = knob(False, help="Print the result as one JSON object")
    quiet: bool = knob(False, flag="-q, --quiet", help="Say nothing but warnings and errors")
    verbose: bool = knob(False, flag="-v, --verbose", help="Say more of what happens", rare=True)
    debug: bool = knob(False, help="Log everything and show tracebacks", rare=True)


class Call(NamedTuple):
    """A command line, understood."""

    words: tuple[str, ...]
    config: Any
    manner: Manner


class Form(NamedTuple):
    """What a command line fills in: a class of knobs, under the words of the command.

    Where a knob of it chooses from a table, `chooser` is that knob and the last word names the
    row. `tables` are the first words of all commands: what a TOML file may hold tables for.
    """

    words: tuple[str, ...]
    cls: type
    tables: frozenset[str]
    chooser: Leaf | None = None

    @property
    def subject(self) -> type:
        """The class that says what the command does: of the row that was chosen, if any."""
        return choose(self.chooser, self.words[-1]) if self.chooser else self.cls

    def flags(self) -> list[Flag]:
        """The flags of the row that was chosen, then those of the class itself."""
        chosen = spread(self.subject, path=(self.chooser.key,)) if self.chooser else ()
        return [*chosen, *spread(self.cls)]

    def read(self, path: Path) -> dict[str, Any]:
        """The part of a TOML file that speaks to this command: its table, else the whole file.

        A JSON file, such as a model's config.json, is what the knob for it names.
        """
        leaf = next((one for one in knobs(self.cls) if one.knob.json_config), None)
        if leaf and path.suffix == ".json":
            return {leaf.key: str(path)}
        document = toml.load(path)
        if self.tables.isdisjoint(document.keys() - {leaf.key for leaf in knobs(self.cls)}):
            return document
        for key in document.keys() - self.tables:
            raise ConfigError(f"unknown table `{key}` in {path}", hint=suggest(key, self.tables))
        part: Any = document
        for word in self.words[:-1] if self.chooser else self.words:
            part = part.get(word, {})
            if not isinstance(part, dict):
                raise ConfigError(f"`{word}` in {path} takes a table, not `{part}`")
        return part

    def settle(self, data: dict[str, Any], *, where: str) -> dict[str, Any]:
        """The data with the row that was chosen; ConfigError where a file is about another."""
        if self.chooser is None:
            return data
        key, row = self.chooser.key, self.words[-1]
        stated = data.get(key, {})
        table: dict[str, Any] = stated if isinstance(stated, dict) else {"type": stated}
        if table.get("type", row) != row:
            raise ConfigError(f"{where} is about the {key} `{table['type']}`, not `{row}`")
        return {**data, key: {"type": row, **table}}


class Command(TyperCommand):
    """A command whose help is a page that `draw` makes, and whose words stay as they were typed."""

    draw: Callable[[], Page]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        formatter.write(render(self.draw()))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the words of each parameter; what they mean is for `config` to say.

        Typer would convert them by pydantic, whose import takes as long as all the rest.
        """
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        given, rest, order = self.make_parser(ctx).parse_args(args=args)
        for asked in (one for one in order if one.is_eager):
            asked.handle_parse_result(ctx, given, rest)
        if rest:
            ctx.fail(f"too many arguments: {' '.join(rest)}")
        ctx.params = {one.name: given.get(one.name) for one in self.params if one.expose_value}
        return rest


def make_command(form: Form) -> Command:
    """The Typer command that reads a form's command line and returns a Call."""
    flags = form.flags()
    own = {flag.name for flag in flags}
    # A command's own flag wins: `show --config` prints what `--config FILE` reads elsewhere.
    manners = [flag for flag in spread(Manner, panel=EVERY) if flag.name not in own]

    def draw() -> Page:
        return _page(form, [*flags, *manners])

    def receive(**given: Any) -> Call:
        manner = from_dict(Manner, overlay({}, manners, given))
        where = str(manner.config or "")
        data = form.settle(form.read(manner.config) if manner.config else {}, where=where)
        data = overlay(data, flags, given)
        demand(flags, data, usage=_usage(form, flags))
        return Call(form.words, from_dict(form.cls, data, where=where), manner)

    def show_all(context: typer.Context, value: bool) -> None:
        if value and not context.resilient_parsing:
            typer.echo(render(draw(), with_rare=True), color=context.color)
            raise typer.Exit

    show = typer.Option(False, "--help-all", is_eager=True, callback=show_all, expose_value=False)
    parameters = [flag.parameter() for flag in (*flags, *manners)]
    parameters.append(parameter("_help_all", bool, show))
    receive.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    app = typer.Typer(add_completion=False, context_settings=settings())
    summary = first_line(form.subject)
    app.command(form.words[-1], cls=Command, short_help=summary)(receive)
    command = typing.cast("Command", typer.main.get_command(app))
    command.draw = draw
    return command


def _usage(form: Form, flags: Iterable[Flag]) -> str:
    places = [flag.place for flag in flags if flag.leaf.knob.positional]
    return " ".join(("llmctl", *form.words, *places, "[OPTIONS]"))


def _page(form: Form, flags: list[Flag]) -> Page:
    panels: dict[str, list[Row]] = {"Arguments": []}
    for flag in flags:
        title = "Arguments" if flag.leaf.knob.positional else flag.panel
        panels.setdefault(title, []).append(flag.row)
    hidden = sum(flag.leaf.knob.rare for flag in flags)
    panels[EVERY] += [HELP, Row("--help-all", f"Show this page with {hidden} rarer flags")]
    return Page(_usage(form, flags), describe(form.subject), panels)
