import dataclasses
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.config import (
    dry_run_knob,
    force_knob,
    from_dict,
    identity,
    knob,
    name_knob,
    parse_count,
    to_dict,
    to_toml,
)
from llmctl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    rate: float = knob(1e-3, help="Step size")
    betas: tuple[float, ...] = knob((0.9, 0.95), help="Memory")
    kind: Literal["adamw", "muon"] = knob("adamw", help="The rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    paths: tuple[Path, ...] = knob(help="What to read", positional=True)
    workers: int = knob(1, help="Processes", identity=False)


SOURCES = {"demo": f"{__name__}:Demo", "files": f"{__name__}:Files"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    from_: str | None = knob(None, help="The tokens")
    source: Any = knob(Demo(), choices_from=f"{__name__}:SOURCES", help="Where from")
    params: int | None = knob(None, help="How many parameters", parse=parse_count)
    clip: float | None = knob(1.0, help="The longest gradient")
    precision: Literal["auto", "bf16"] | None = knob("auto", help="Numbers")
    mix: dict[str, float] = knob(factory=dict, help="Weights")
    compile: bool | None = knob(None, help="Compile")
    files: tuple[Path, ...] = knob((), help="Files")
    stop: tuple[str, ...] = knob((), help="Strings")
    rule: Rule = knob(factory=Rule, help="The optimizer")
    name: str | None = name_knob("The model")
    force: bool = force_knob()
    dry_run: bool = dry_run_knob()


def text() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"])).filter(lambda word: word != "none")


def number() -> st.SearchStrategy[float]:
    return st.floats(allow_nan=False)


def path() -> st.SearchStrategy[Path]:
    return text().map(lambda name: Path(name.replace("\0", "")))


def rules() -> st.SearchStrategy[Rule]:
    betas = st.lists(number(), max_size=3).map(tuple)
    return st.builds(Rule, rate=number(), betas=betas, kind=st.sampled_from(["adamw", "muon"]))


def trains() -> st.SearchStrategy[Train]:
    paths = st.lists(path(), max_size=3).map(tuple)
    return st.builds(
        Train,
        from_=st.none() | text(),
        source=st.builds(Demo) | st.builds(Files, paths=paths, workers=st.integers()),
        params=st.none() | st.integers(),
        clip=st.none() | number(),
        precision=st.none() | st.sampled_from(["auto", "bf16"]),
        mix=st.dictionaries(text(), number(), max_size=3),
        compile=st.none() | st.booleans(),
        files=paths,
        stop=st.lists(text(), max_size=3).map(tuple),
        rule=rules(),
        name=st.none() | text(),
        force=st.booleans(),
    )


@given(trains())
def test_a_config_comes_back_from_its_toml(config: Train):
    assert from_dict(Train, tomllib.loads(to_toml(config))) == config


@given(trains())
def test_a_config_comes_back_from_its_json(config: Train):
    assert from_dict(Train, json.loads(json.dumps(to_dict(config)))) == config


@given(trains())
def test_a_config_comes_back_from_the_toml_of_its_plain_values(config: Train):
    assert from_dict(Train, tomllib.loads(to_toml(to_dict(config)))) == config


def test_the_identity_leaves_out_how_a_command_was_presented():
    config = Train(name="mine", force=True, source=Files(paths=(Path("a"),), workers=8))

    assert identity(config) == identity(
        dataclasses.replace(config, name=None, force=False, source=Files(paths=(Path("a"),)))
    )


def test_the_identity_names_the_source_that_was_chosen():
    chosen = identity(Train(source=Files(paths=(Path("a"), Path("b")))))["source"]

    assert chosen == {"type": "files", "paths": ["a", "b"]}


def test_the_identity_differs_where_a_nested_knob_does():
    assert identity(Train()) != identity(Train(rule=Rule(rate=0.5)))


def test_a_source_may_be_named_without_a_table():
    assert from_dict(Train, {"source": "demo"}).source == Demo()


def test_a_count_may_be_written_as_a_float_of_toml():
    assert from_dict(Train, tomllib.loads("params = 124e6")).params == 124_000_000


def test_none_in_toml_takes_away_a_default():
    assert from_dict(Train, tomllib.loads('clip = "none"')).clip is None


@pytest.mark.parametrize(
    ("document", "message", "hint"),
    [
        ("parms = 3", "unknown key `parms` in my.toml", "did you mean `params`?"),
        ("rule.rat = 3", "unknown key `rule.rat` in my.toml", "did you mean `rate`?"),
        ('clip = "much"', "`clip` in my.toml takes a number, not `much`", None),
        ("clip = true", "`clip` in my.toml takes a number, not `True`", None),
        ("clip = nan", "`clip` in my.toml takes a number, not `nan`", None),
        ("params = true", "`params` in my.toml takes a whole number, not `True`", None),
        ("params = 1.5", "`params` in my.toml: `1.5` is not a count", None),
        ("files = 'a'", "`files` in my.toml takes a list, each a path, not `a`", None),
        ("name = 2024", "`name` in my.toml takes text, not `2024`", None),
        ("mix.a = 'x'", "`mix` in my.toml takes a table, each a number, not `{'a': 'x'}`", None),
        ("rule = 3", "`rule` in my.toml takes a rule, not `3`", None),
        ("precision = 'bf17'", "`precision` in my.toml cannot be `bf17`", "did you mean `bf16`?"),
        ("rule.kind = 3", "`rule.kind` in my.toml cannot be `3`", None),
        ("source.type = 'file'", "unknown source `file`", "did you mean `files`?"),
        ("source.type = 'files'", "`source.paths` is missing in my.toml", "What to read"),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_what_it_takes(
    document: str, message: str, hint: str | None
):
    with pytest.raises(ConfigError) as refusal:
        from_dict(Train, tomllib.loads(document), where="my.toml")

    assert refusal.value.message == message
    assert hint is None or refusal.value.hint == hint


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("2000", 2000),
        ("2_000", 2000),
        ("300k", 300_000),
        ("1.1M", 1_100_000),
        ("1.5B", 1_500_000_000),
        ("7g", 7_000_000_000),
        ("2 T", 2_000_000_000_000),
        ("124e6", 124_000_000),
        ("1.24E8", 124_000_000),
        (" .5k ", 500),
    ],
)
def test_a_count_is_read_as_people_write_it(text: str, count: int):
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text", ["", "k", "12x", "-3", "nan", "inf", "1.5", "1.0001k", "1e999999999", "3,000", "0x10"]
)
def test_what_is_no_whole_number_is_no_count(text: str):
    with pytest.raises(ConfigError, match="is not a count"):
        parse_count(text)


@given(st.integers(0, 2**53))
def test_a_count_is_read_however_python_spells_the_number(count: int):
    assert parse_count(repr(count)) == parse_count(repr(float(count))) == count
