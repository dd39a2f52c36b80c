from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from llmctl.cli.forms import Call, Form, make_command
from llmctl.config import identity, knob, knobs, parse_count
from llmctl.errors import ConfigError


def understand(cls: type, *words: str) -> Any:
    """The config that a command line makes."""
    command = make_command(Form(("try",), cls, frozenset({"try"})))
    call = command.main(args=list(words), prog_name="llmctl try", standalone_mode=False)
    assert isinstance(call, Call)
    return call.config


def one_knob(kind: Any, **traits: Any) -> type:
    """A class whose only knob is `value`."""
    field = ("value", kind, knob(help="A value", **traits))
    return make_dataclass("OneKnob", [field], frozen=True, kw_only=True)


def page(cls: type, capsys: pytest.CaptureFixture[str], flag: str = "--help") -> str:
    command = make_command(Form(("try",), cls, frozenset()))
    command.main(args=[flag], prog_name="llmctl try", standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "default", "words", "value"),
    [
        (str, "a", [], "a"),
        (str, "a", ["--value", "b c"], "b c"),
        (str, "a", ["--value", ""], ""),
        (str, "a", ["--value=--odd"], "--odd"),
        (int, 1, ["--value", "-3"], -3),
        (int, 1, ["--value", "2_000"], 2000),
        (float, 1.0, ["--value", "3e-4"], 3e-4),
        (Path, Path("a"), ["--value", "b/c"], Path("b/c")),
        (bool, False, [], False),
        (bool, False, ["--value"], True),
        (bool, True, ["--no-value"], False),
        (bool, False, ["--value", "--no-value"], False),
        (bool | None, None, [], None),
        (bool | None, None, ["--no-value"], False),
        (int | None, None, [], None),
        (int | None, None, ["--value", "7"], 7),
        (int | None, 7, ["--value", "none"], None),
        (Literal["a", "b"], "a", ["--value", "b"], "b"),
        (Literal[1, 2], 1, ["--value", "2"], 2),
        (int | Literal["auto"], "auto", ["--value", "4"], 4),
        (int | Literal["auto"], 4, ["--value", "auto"], "auto"),
        (tuple[str, ...], (), [], ()),
        (tuple[str, ...], ("a",), ["--value", "b", "--value", "c"], ("b", "c")),
        (tuple[Path, ...], (), ["--value", "b"], (Path("b"),)),
        (tuple[int, ...] | None, None, ["--value", "1", "--value", "2"], (1, 2)),
        (tuple[Literal["a", "b"], ...], (), ["--value", "b"], ("b",)),
    ],
)
def test_a_knob_of_any_type_is_a_flag(kind: Any, default: Any, words: list[str], value: Any):
    assert understand(one_knob(kind, default=default), *words).value == value


@pytest.mark.parametrize(
    ("kind", "word", "message"),
    [
        (int, "3.5", "`--value` takes a whole number, not `3.5`"),
        (float, "fast", "`--value` takes a number, not `fast`"),
        (float, "nan", "`--value` takes a number, not `nan`"),
        (int | None, "", "`--value` takes a whole number, not ``"),
        (Literal["left", "right"], "rihgt", "`--value` cannot be `rihgt`"),
        (int | Literal["auto"], "car", "`--value` takes a whole number or `auto`, not `car`"),
        (tuple[int, ...], "a", "`--value` takes a whole number, not `a`"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_flag(kind: Any, word: str, message: str):
    with pytest.raises(ConfigError) as refusal:
        understand(one_knob(kind, default=None), "--value", word)

    assert refusal.value.message == message


def test_a_misspelt_choice_is_told_the_nearest():
    with pytest.raises(ConfigError) as refusal:
        understand(one_knob(Literal["left", "right"], default="left"), "--value", "rihgt")

    assert refusal.value.hint == "did you mean `right`?"


def test_a_count_is_parsed_and_shown_as_such(capsys: pytest.CaptureFixture[str]):
    cls = one_knob(int | None, default=None, parse=parse_count)

    assert understand(cls, "--value", "1.5B").value == 1_500_000_000
    assert "--value COUNT" in page(cls, capsys)


def test_a_count_that_is_none_is_named_with_its_flag():
    with pytest.raises(ConfigError, match="`--value`: `many` is not a count"):
        understand(one_knob(int, default=1, parse=parse_count), "--value", "many")


def test_a_positional_knob_takes_all_the_words():
    cls = one_knob(tuple[Path, ...], positional=True)

    assert understand(cls, "a", "b").value == (Path("a"), Path("b"))


def test_a_required_word_that_is_missing_is_named():
    cls = one_knob(tuple[Path, ...], positional=True, metavar="FILE")

    with pytest.raises(ConfigError) as refusal:
        understand(cls)

    assert refusal.value.message == "`FILE...` is missing"
    assert refusal.value.hint == "usage: llmctl try FILE... [OPTIONS]"


def test_a_required_flag_that_is_missing_is_named():
    with pytest.raises(ConfigError, match="`--value NUMBER` is missing"):
        understand(one_knob(int))


def test_one_word_may_be_optional():
    cls = one_knob(str | None, default=None, positional=True)

    assert (understand(cls).value, understand(cls, "a").value) == (None, "a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    rate: float = knob(3e-4, help="Step size")
    kind: Literal["adamw", "muon"] = knob("muon", help="Rule", flag="--optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Train a model.

    At some length.

        llmctl try --from here
    """

    from_: tuple[str, ...] = knob((), help="Where from [here]", panel="Input")
    long_name: str = knob("x", help="Long", flag="-l, --long-name")
    workers: int | Literal["auto"] = knob("auto", help="Processes")
    mixed: bool = knob(True, help="Mixed")
    exact: bool = knob(False, help="Exact")
    fused: bool | None = knob(None, help="Fused")
    size: Literal["nano", "tiny", "small", "medium", "large"] = knob("nano", help="How large")
    rule: Rule = knob(factory=Rule, help="The optimizer")
    steps: int = knob(100_000, help="Steps", rare=True)


def test_a_name_that_python_keeps_for_itself_is_a_flag_all_the_same():
    assert understand(Train, "--from", "a").from_ == ("a",)


def test_a_flag_may_have_a_short_form():
    assert understand(Train, "-l", "b").long_name == "b"


def test_the_leaves_of_a_nested_knob_are_flags():
    config = understand(Train, "--rate", "0.5", "--optimizer", "adamw")

    assert config.rule == Rule(rate=0.5, kind="adamw")


def test_the_leaves_of_a_nested_knob_have_a_panel_of_their_own(capsys: pytest.CaptureFixture[str]):
    assert "\nRule\n      --rate NUMBER " in page(Train, capsys)


def test_a_rare_knob_is_hidden_until_all_help_is_asked_for(capsys: pytest.CaptureFixture[str]):
    assert "--steps" not in page(Train, capsys)
    assert "--steps NUMBER" in page(Train, capsys, "--help-all")


def test_a_rare_knob_works_though_it_is_hidden():
    assert understand(Train, "--steps", "3").steps == 3


@pytest.mark.parametrize(
    "row",
    [
        "--from TEXT Where from [here] (may be repeated)",
        "--workers NUMBER|auto Processes (default: auto)",
        "-l, --long-name TEXT Long (default: x)",
        "--mixed, --no-mixed Mixed (default: on)",
        "--exact Exact",
        "--fused, --no-fused Fused",
        "--optimizer adamw|muon Rule (default: muon)",
        "--size SIZE How large (one of nano, tiny, small, medium, large; default: nano)",
        "llmctl try --from here",
    ],
)
def test_the_help_page_shows_a_flag_with_its_value_and_default(
    row: str, capsys: pytest.CaptureFixture[str]
):
    assert f" {row} " in " ".join(page(Train, capsys).split())


def test_a_class_without_a_word_about_itself_has_a_page_without_one(
    capsys: pytest.CaptureFixture[str],
):
    assert page(Rule, capsys).startswith("Usage\n")


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_help_page_fits_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", str(columns))

    assert max(map(len, page(Train, capsys).splitlines())) <= columns


def test_two_knobs_of_one_name_are_a_mistake_of_the_programmer():
    fields = [("rate", float, knob(1.0, help="Clash")), ("rule", Rule, knob(help="", factory=Rule))]
    cls = make_dataclass("Clash", fields, frozen=True, kw_only=True)

    with pytest.raises(ValueError, match="duplicate parameter name"):
        understand(cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Read files."""

    paths: tuple[Path, ...] = knob(positional=True, help="Files")
    column: str | None = knob(None, help="Column")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Read what is there."""


SOURCES = {"demo": f"{__name__}:Demo", "files": f"{__name__}:Files"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """Collect text."""

    source: Any = knob(choices_from=f"{__name__}:SOURCES", help="Where from")
    limit: int | None = knob(None, help="How many", parse=parse_count)


def collect(*words: str) -> Any:
    chooser = next(iter(knobs(Collect)))
    command = make_command(Form(("collect", words[0]), Collect, frozenset({"collect"}), chooser))
    return command.main(args=list(words[1:]), prog_name="x", standalone_mode=False).config


def test_the_row_of_a_table_is_a_command_with_its_own_flags_and_those_of_the_stage():
    config = collect("files", "a", "b", "--column", "text", "--limit", "3k")

    source = Files(paths=(Path("a"), Path("b")), column="text")
    assert config == Collect(source=source, limit=3000)


def test_the_row_of_a_table_is_part_of_what_an_artifact_is():
    assert identity(collect("demo")) == {"source": {"type": "demo"}, "limit": None}
