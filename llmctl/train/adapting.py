"""A base model's folder and texts -> a base that has learnt to write such texts.

What comes before a task with labels where the base has hardly seen texts of its sort: training as
a language model goes on, on the task's own texts (task-adaptive pretraining: Gururangan et al.
2020, arXiv 2004.10964, section 4). Receives paths, never artifact names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from llmctl.data.chat_batches import ChatBatches
from llmctl.data.template import Rendered
from llmctl.data.tokenizer import Tokenizer
from llmctl.model.checkpoint import SpecialIds, load_model, read_shape, save_model
from llmctl.train.classifying import tokenizer_for
from llmctl.train.evaluation import Score, score
from llmctl.train.instructing import describe_score
from llmctl.train.machine import Machine
from llmctl.train.objectives import next_token
from llmctl.train.run import Run
from llmctl.train.tuning import Dose, Tuning

# A few short rows a step, so that a small set, too, has many steps in an epoch.
ROWS, MOST_CONTEXT = 4, 256


class Texts(NamedTuple):
    """Texts to learn to write, and others to measure by."""

    train: Sequence[str]
    validation: Sequence[str]


class Adapting:
    """A base in the making: `start`, then `run.train()`, then `write_model`."""

    def __init__(self, base: Path, texts: Texts, dose: Dose, machine: Machine) -> None:
        self.base = base
        self._validation = batches_of(base, texts.validation, seed=dose.seed)
        self._bytes = text_bytes(texts.validation)
        self.model = load_model(base, dtype=torch.float32)
        batches = batches_of(base, texts.train, seed=dose.seed)
        self.tuning = Tuning(self.model, next_token, batches, dose, machine)

    def start(self, directory: Path) -> Run:
        """The run in a folder, standing where an earlier attempt left it."""
        return self.tuning.start(directory, self._score, describe_score)

    def bits_per_byte(self) -> float:
        """What the model as it stands spends on each byte of the validation texts."""
        return self._score().bits_per_byte(self._bytes)

    def write_model(self, directory: Path) -> None:
        """The model as it stands, as a folder like the base's."""
        model, tokenizer = self.model, Tokenizer.load(self.base)
        state = self.tuning.trainer.masters.trained_state(model)
        special = SpecialIds(eos=tokenizer.eos_id, pad=tokenizer.pad_id, bos=tokenizer.bos_id)
        save_model(state, model.shape, directory, special=special)
        tokenizer.save(directory)

    def _score(self) -> Score:
        return score(self.model, next_token, self._validation.in_order())


def bits_per_byte(base: Path, texts: Sequence[str], machine: Machine) -> float:
    """What a base spends on each byte of texts as a classifier reads them."""
    model = load_model(base, dtype=machine.dtype, device=machine.device)
    found = score(model, next_token, batches_of(base, texts, seed=0).in_order())
    return found.bits_per_byte(text_bytes(texts))


def batches_of(base: Path, texts: Sequence[str], *, seed: int) -> ChatBatches:
    """Texts as rows packed full, of which every token is trained; long ones come in pieces."""
    tokenizer = tokenizer_for(base)
    context = min(MOST_CONTEXT, read_shape(base).context)
    pieces = [
        ids[start : start + context + 1]
        for ids in map(tokenizer.encode_prompt, texts)
        for start in range(0, max(1, len(ids) - 1), context)
    ]
    return ChatBatches(
        [Rendered(ids, [True] * len(ids), ()) for ids in pieces if len(ids) > 1],
        context=context,
        rows=ROWS,
        pad_id=tokenizer.pad_id,
        seed=seed,
    )


def text_bytes(texts: Sequence[str]) -> int:
    """The UTF-8 bytes of texts."""
    return sum(len(text.encode()) for text in texts)
