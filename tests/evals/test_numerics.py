"""`llmctl doctor --numerics`: what is right holds, and whatever is broken is seen to be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from llmctl.evals.numerics import (
    Check,
    accumulation,
    batching,
    caching,
    exact_processes,
    model_form,
    packing,
    processes,
    saving,
)
from llmctl.model.cache import KVCache
from llmctl.model.checkpoint import save_model
from llmctl.model.transformer import Transformer
from llmctl.train.checkpoint import ModelForm
from llmctl.train.objectives import next_token
from llmctl.train.trainer import Trainer
from llmctl.train.twins import SHAPE, tiny_model, tiny_trainer


def broken(kind: type[Transformer]) -> Transformer:
    model = kind(SHAPE)
    model.load_state_dict(tiny_model().state_dict())
    return model


class Unmasked(Transformer):
    """Sees over the borders of documents."""

    def hidden(self, ids_BT: Tensor, **traits: Any) -> Tensor:
        return super().hidden(ids_BT, **traits | {"segments_BT": None})


class Forgetful(Transformer):
    """Loses the last token of all that it read."""

    def hidden(self, ids_BT: Tensor, *, cache: KVCache | None = None, **traits: Any) -> Tensor:
        x_BTD = super().hidden(ids_BT, cache=cache, **traits)
        if cache is not None:
            cache.length -= 1
        return x_BTD


class SeesPadding(Transformer):
    """Takes what fills a row up for text."""

    def hidden(self, ids_BT: Tensor, *, cache: KVCache | None = None, **traits: Any) -> Tensor:
        if cache is not None:
            cache.padding_B = None
        return super().hidden(ids_BT, cache=cache, **traits)


class Lost(Transformer):
    """Computes what is not a number."""

    def logits(self, x_BTD: Tensor) -> Tensor:
        return super().logits(x_BTD) * float("nan")


def mean_of_means(model: Transformer, batch: Any) -> Tensor:
    """Each micro-batch counts the same, however much of it is trained."""
    return next_token(model, batch) / batch.trained


def rounding_form(trainer: Trainer) -> ModelForm:
    right = model_form(trainer)

    def write(state: Any, path: Path) -> None:
        halves = {name: one.bfloat16().float() for name, one in state.items()}
        save_model(halves, SHAPE, path)

    return ModelForm(state=right.state, write=write, read=right.read)


def begin() -> Trainer:
    return tiny_trainer(tiny_model())


@pytest.mark.parametrize(
    "check",
    [
        lambda: accumulation(tiny_model()),
        lambda: packing(tiny_model()),
        lambda: caching(tiny_model()),
        lambda: batching(tiny_model()),
        lambda: saving(begin),
    ],
)
def test_what_is_right_holds(check: Callable[[], Check]) -> None:
    assert check().holds


@pytest.mark.parametrize(
    "check",
    [
        lambda: accumulation(tiny_model(), objective=mean_of_means),
        lambda: packing(broken(Unmasked)),
        lambda: packing(broken(Lost)),
        lambda: caching(broken(Forgetful)),
        lambda: batching(broken(SeesPadding)),
        lambda: saving(begin, form=rounding_form),
    ],
    ids=["accumulation", "packing", "not a number", "caching", "batching", "saving"],
)
def test_what_is_broken_is_found(check: Callable[[], Check]) -> None:
    found = check()

    assert not found.holds
    assert found.difference > 10 * found.tolerance


@pytest.mark.slow
def test_two_processes_train_what_one_does() -> None:
    found = [processes(), exact_processes()]

    assert [one.holds for one in found] == [True, True]
    assert found[1].difference == 0.0


@pytest.mark.slow
def test_processes_that_do_not_add_up_are_found(tmp_path: Path) -> None:
    program = tmp_path / "apart.py"
    program.write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        "from llmctl.train import twins\n"
        "from llmctl.train.reduction import Alone\n"
        "twins.AllReduce = twins.Pairwise = Alone\n"
        "twins.main(json.loads(Path(sys.argv[1]).read_bytes()))\n",
        encoding="utf-8",
    )

    found = [processes([str(program)]), exact_processes([str(program)])]

    assert [one.holds for one in found] == [False, False]
    assert min(one.difference for one in found) > 0.01


@pytest.mark.slow
def test_processes_that_die_are_named(tmp_path: Path) -> None:
    found = processes(["-c", "raise SystemExit(3)"])

    assert not found.holds
    assert "exit code 3" in found.fault
