"""A base model's folder and conversations -> a model that answers, trained on the answers alone.

Methods differ by what is trained: all of it, or low-rank adapters beside it, whose base may be
kept in four bits meanwhile. Receives paths, never artifact names.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from llmctl.data.chat_batches import ChatBatches
from llmctl.data.labeled.conversations import Conversation
from llmctl.data.labeled.splits import TEST, TRAIN, VALIDATION
from llmctl.data.template import ChatTemplate, Rendered, check_rendering
from llmctl.data.tokenizer import Tokenizer
from llmctl.errors import DataError
from llmctl.model.adapters import add_adapters, fold_frozen, merge_adapters, save_adapter
from llmctl.model.checkpoint import SpecialIds, load_model, save_model
from llmctl.model.low_rank import AdapterSettings
from llmctl.model.transformer import Transformer
from llmctl.train.evaluation import Score, score
from llmctl.train.machine import Machine
from llmctl.train.objectives import next_token
from llmctl.train.run import Run
from llmctl.train.tuning import Dose, Tuning

Method = Literal["full", "lora", "qlora"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What to train on, and how; `context` is how many tokens a row holds."""

    base: Path
    train: Sequence[Conversation]
    validation: Sequence[Conversation]
    method: Method
    dose: Dose
    rows: int
    context: int
    adapters: AdapterSettings
    seed: int
    is_packed: bool = True


class Fitted(NamedTuple):
    """Conversations that fit into a context, and what it took to make them fit."""

    rows: list[Rendered]
    shortened: int
    left_out: tuple[str, ...]


class Instructing:
    """A model in the making that answers: `start`, then `run.train()`, then `finish`."""

    def __init__(self, course: Course, machine: Machine) -> None:
        self.course = course
        self.template = ChatTemplate(Tokenizer.load(course.base))
        self.model = load_model(course.base, dtype=torch.float32)
        self.fitted = self.fit(course.train, TRAIN)
        batches = self._batches(self.fitted.rows)
        self._validation = self._batches(self.fit(course.validation, VALIDATION).rows)
        if course.method != "full":
            add_adapters(self.model, course.adapters, seed=course.seed)
        if course.method == "qlora":
            fold_frozen(self.model, machine.device)
        self.tuning = Tuning(self.model, next_token, batches, course.dose, machine)

    def fit(self, conversations: Sequence[Conversation], side: str) -> Fitted:
        """Conversations as ids; DataError where none fits, or nothing could be learnt from one."""
        return fit(conversations, self.template, self.course.context, side=side)

    def start(self, directory: Path) -> Run:
        """The run in a folder, standing where an earlier attempt left it."""
        return self.tuning.start(directory, self._evaluate, describe_score)

    def score(self, test: Sequence[Conversation]) -> Score:
        """The mean loss, in nats, over the tokens of the answers."""
        return self._score(self._batches(self.fit(test, TEST).rows))

    def score_base(self, test: Sequence[Conversation]) -> Score:
        """The same before the first step, of the base as it is and not of four bits of it."""
        if self.course.method != "qlora":
            return self.score(test)
        machine = self.tuning.machine
        base = load_model(self.course.base, dtype=machine.dtype, device=machine.device)
        return score(base, next_token, self._batches(self.fit(test, TEST).rows).in_order())

    def finish(self, directory: Path) -> None:
        """One plain float32 model of what was trained and what was kept, in a folder.

        Adapters are merged into the weights as they were before any folding into four bits, and
        lie beside it in PEFT's form in `adapter/`.
        """
        course, device = self.course, self.tuning.machine.device
        state = self.tuning.trainer.masters.trained_state(self.model)
        model = load_model(course.base, dtype=torch.float32)
        if course.method != "full":
            add_adapters(model, course.adapters, seed=course.seed)
        model.load_state_dict({name: one.cpu() for name, one in state.items()}, strict=False)
        if course.method != "full":
            beside = directory / "adapter"
            beside.mkdir(exist_ok=True)
            save_adapter(model, course.adapters, beside, str(course.base))
            merge_adapters(model)
        self._write(model, directory)
        self.model = model.to(device)

    def _write(self, model: Transformer, directory: Path) -> None:
        tokenizer = self.template.tokenizer
        special = SpecialIds(eos=self.template.end_ids, pad=tokenizer.pad_id, bos=tokenizer.bos_id)
        save_model(model.state_dict(), model.shape, directory, special=special)
        tokenizer.save(directory)

    def _batches(self, rows: Sequence[Rendered]) -> ChatBatches:
        return batches_of(rows, self.course, self.template)

    def _evaluate(self) -> Score:
        return self._score(self._validation)

    def _score(self, batches: ChatBatches) -> Score:
        return score(self.model, next_token, batches.in_order())


def describe_score(found: Score) -> dict[str, Any]:
    """A score as the journal holds it."""
    return {"val_loss": found.loss, "val_perplexity": math.exp(min(found.loss, 50.0))}


def batches_of(rows: Sequence[Rendered], course: Course, template: ChatTemplate) -> ChatBatches:
    """Rows as the batches of a course."""
    return ChatBatches(
        rows,
        context=course.context,
        rows=course.rows,
        pad_id=template.tokenizer.pad_id,
        seed=course.seed,
        pack=course.is_packed,
    )


def fit(
    conversations: Sequence[Conversation], template: ChatTemplate, context: int, *, side: str
) -> Fitted:
    """A side as rows of at most `context` tokens and one: a longer one loses its beginning.

    One whose answers would lose something is left out, and named: what is trained is never cut.
    Raises DataError where none is left, or that names rows from which nothing could be learnt.
    """
    rendered = check_rendering(template, conversations)
    names = [one.id for one in conversations]
    rows: list[Rendered] = []
    left_out: list[str] = []
    shortened = 0
    for one, name in zip(rendered, names, strict=True):
        beyond = len(one.ids) - (context + 1)
        if beyond <= 0:
            rows.append(one)
        elif any(one.trained[: beyond + 1]):
            left_out.append(name)
        else:
            shortened += 1
            rows.append(Rendered(one.ids[beyond:], one.trained[beyond:], one.end_ids))
    if not rows:
        other = "" if side == TRAIN else "; without `--test`, another `--seed` holds others out"
        raise DataError(
            f"none of the {len(names):,} conversations of the {side} split fits into {context:,} "
            f"tokens, the longest of {max(len(one.ids) for one in rendered):,}",
            hint=f"give a larger `--context`, or a base model that has one{other}",
        )
    return Fitted(rows, shortened, tuple(left_out))
