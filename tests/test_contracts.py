"""Every row of every table is what its contract asks for, the rows of tomorrow included."""

from dataclasses import is_dataclass
from typing import Any

import pytest

from llmctl.config import from_dict, to_dict
from llmctl.data.chain import build_rules, resolve
from llmctl.data.filters import FILTERS
from llmctl.data.formats import ARCHIVES, READERS, ROWS
from llmctl.data.reading import Reading
from llmctl.data.sources import SOURCES
from llmctl.data.verdict import Drop, Edit
from llmctl.model.families import FAMILIES
from llmctl.registry import load
from llmctl.stages import COMMANDS
from llmctl.train.optimizers import OPTIMIZERS

STAGES = {name: row for group in COMMANDS.values() for name, row in group.items()}
TEXT = "The river rises in the hills behind the town, and turns twice before the mill. " * 12


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_lists_its_parts_and_reads_one(name: str):
    source = load(SOURCES[name])

    assert is_dataclass(source)
    assert source.__doc__
    for method in ("default_name", "parts", "read"):
        assert callable(getattr(source, method))


@pytest.mark.parametrize("name", FILTERS)
def test_a_rule_judges_any_text_alike_by_thresholds_that_a_file_can_hold(name: str):
    rule = build_rules(resolve([name], [], []))[0].filter

    assert from_dict(type(rule), to_dict(rule)) == rule
    for text in (TEXT, "", "x", "\u0e01\u0e02 \ufffd\n\n- a\n"):
        verdict = rule.judge(Reading(text))
        assert verdict is None or isinstance(verdict, Drop | Edit)
        assert rule.judge(Reading(text)) == verdict


@pytest.mark.parametrize("address", sorted({*READERS.values(), *ROWS.values(), *ARCHIVES.values()}))
def test_a_reader_of_a_format_can_be_called(address: str):
    assert callable(load(address))


@pytest.mark.parametrize("name", STAGES)
def test_a_command_is_a_frozen_class_of_knobs_and_a_function(name: str):
    address, line = STAGES[name]
    stage: Any = load(address)

    assert stage.__dataclass_params__.frozen
    assert (stage.__doc__ or "").splitlines()[0].removesuffix(".") == line
    assert callable(load(f"{address.partition(':')[0]}:run"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_knows_its_shape_and_its_names(name: str):
    family = load(FAMILIES[name])

    assert callable(family.config)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_can_be_called(name: str):
    assert callable(load(OPTIMIZERS[name]))
