"""A base model's folder and labelled texts -> a classifier, trained and tempered.

Methods differ by what is trained: all of it, low-rank adapters beside it, or the last block and
the head, for which the states below are computed once. Receives paths, never artifact names.

    N texts, C classes, T time, D width
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from llmctl.data.augmentation import Recombination
from llmctl.data.class_batches import NO_MORE, ClassBatches, LabelledText, More, Noise
from llmctl.data.tokenizer import Tokenizer
from llmctl.model.adapters import adapter_state, add_adapters, merge_adapters, write_adapter
from llmctl.model.checkpoint import SpecialIds, load_model
from llmctl.model.classifier import Classifier, alike, class_logits, classifier_from, padded
from llmctl.model.classifier_folder import save_classifier
from llmctl.model.low_rank import AdapterSettings
from llmctl.train.evidence import evidence, plant
from llmctl.train.machine import Machine
from llmctl.train.objectives import class_label, class_label_above
from llmctl.train.run import Run
from llmctl.train.tuning import Dose, Tuning

Method = Literal["full", "lora", "head"]
# A weight of a rare class beyond this makes single texts shake the whole model.
MOST_WEIGHT = 10.0


class Text(Protocol):
    """A text and the number of its class."""

    @property
    def text(self) -> str: ...

    @property
    def label(self) -> int: ...


class Scores(Protocol):
    """What runs are compared by."""

    @property
    def accuracy(self) -> float: ...

    @property
    def macro_f1(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Scores on the validation texts, and the mean loss there; macro-F1 decides, then the loss.

    `margin` is the standard error of macro-F1: of a few texts it is large, and the best of many
    scores is then chance (the rule of one standard error: Breiman et al. 1984, section 3.4.3).
    """

    accuracy: float
    macro_f1: float
    loss: float
    margin: float

    @property
    def rank(self) -> float:
        """Less is better."""
        return -self.macro_f1 + 1e-4 * min(self.loss, 100.0)


class Teacher(NamedTuple):
    """Another classifier, whose view of texts that nobody wrote is learnt beside the labels.

    `shares` gives the probability (N, C) of each class for N texts; `rows` is how many such texts
    stand in a step beside the given ones (knowledge distillation: Hinton et al. 2015, arXiv
    1503.02531, section 2; of texts of recombined words: Tang et al. 2019, arXiv 1903.12136).
    """

    shares: Callable[[Sequence[str]], np.ndarray]
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What to train on, and how; `judge` scores classes, `doubt` is macro-F1's standard error.

    A step is of `rows` of the given texts, and of those that the teacher is asked about. Where
    `is_counted`, the embedding begins with what counts of tokens tell of the classes. Adapters are
    kept apart only where their base, too, `is_base_kept`.
    """

    base: Path
    classes: tuple[str, ...]
    train: Sequence[Text]
    validation: Sequence[Text]
    method: Method
    dose: Dose
    rows: int
    is_balanced: bool
    is_counted: bool = False
    is_base_kept: bool = True
    noise: float
    teacher: Teacher | None = None
    adapters: AdapterSettings
    seed: int
    judge: Callable[[np.ndarray, np.ndarray], Scores]
    doubt: Callable[[np.ndarray, np.ndarray], float]


class Classifying:
    """A classifier in the making: `start`, then `run.train()`, then `finish` and `write_model`."""

    def __init__(self, lesson: Lesson, machine: Machine) -> None:
        self.lesson = lesson
        self.tokenizer = tokenizer_for(lesson.base)
        decoder = load_model(lesson.base, dtype=torch.float32)
        self.model = classifier_from(decoder, len(lesson.classes), seed=lesson.seed)
        self.cut = 0
        self._adapters: dict[str, Tensor] = {}
        self._validation = self.encode([one.text for one in lesson.validation])
        self._truth = np.array([one.label for one in lesson.validation])
        rows = self.encode([one.text for one in lesson.train])
        labels = [one.label for one in lesson.train]
        self._weights_C = class_weights(
            labels, num_classes=len(lesson.classes), is_balanced=lesson.is_balanced
        )
        sure = list(torch.eye(len(lesson.classes)))
        texts = [
            LabelledText(ids, sure[label], float(self._weights_C[label]))
            for ids, label in zip(rows, labels, strict=True)
        ]
        if lesson.is_counted:
            self._plant(rows, labels)
        self.tuning = self._tuning(texts, machine)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts as ids, cut at the end of the context; `cut` counts those that were."""
        context = self.model.shape.context
        rows = [self.tokenizer.encode_prompt(text) for text in texts]
        self.cut += sum(len(row) > context for row in rows)
        return [self.tokenizer.cut(row, context) for row in rows]

    @property
    def mixed(self) -> int:
        """How many texts of an epoch nobody wrote: as many as its steps have room for."""
        return len(self.lesson.train) * self._mixed_rows // self.lesson.rows

    @property
    def _mixed_rows(self) -> int:
        return self.lesson.teacher.rows if self.lesson.teacher else 0

    def start(self, directory: Path) -> Run:
        """The run in a folder, standing where an earlier attempt left it."""
        return self.tuning.start(directory, self._evaluate, describe_score)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """The float64 logits (N, C) of texts."""
        return self._logits(self.encode(texts))

    def validation_logits(self) -> tuple[np.ndarray, np.ndarray]:
        """The logits of the validation texts, and their classes."""
        return self._logits(self._validation), self._truth

    def finish(self) -> None:
        """Make one plain float32 model of what was trained and what was kept."""
        state = self.tuning.trainer.masters.trained_state(self.model)
        lesson, device = self.lesson, self.tuning.machine.device
        decoder = load_model(lesson.base, dtype=torch.float32)
        model = classifier_from(decoder, len(lesson.classes), seed=lesson.seed)
        if lesson.method == "lora":
            add_adapters(model.decoder, lesson.adapters, seed=lesson.seed)
        model.load_state_dict({name: one.cpu() for name, one in state.items()}, strict=False)
        if lesson.method == "lora":
            self._adapters = adapter_state(model)
            merge_adapters(model.decoder)
        self.model = model.to(device)

    def temper(self, temperature: float) -> None:
        """Divide all logits by a temperature, once and for ever: the head carries it."""
        with torch.no_grad():
            self.model.score.weight /= temperature

    def write_model(self, directory: Path) -> None:
        """The classifier as it stands, as a folder that transformers opens.

        Adapters, which are merged, lie beside it with the head in PEFT's form in `adapter/`, where
        the base is one that is kept.
        """
        tokenizer = self.tokenizer
        special = SpecialIds(eos=tokenizer.eos_id, pad=tokenizer.pad_id, bos=tokenizer.bos_id)
        state = {name: one.cpu() for name, one in self.model.state_dict().items()}
        save_classifier(self.model, state, self.lesson.classes, directory, special=special)
        tokenizer.save(directory)
        if self._adapters and self.lesson.is_base_kept:
            beside = directory / "adapter"
            beside.mkdir(exist_ok=True)
            write_adapter(
                self._adapters,
                self.model.shape,
                self.lesson.adapters,
                beside,
                str(self.lesson.base),
                head_CD=self.model.score.weight,
            )

    def _plant(self, rows: Sequence[Sequence[int]], labels: Sequence[int]) -> None:
        """Let the embedding say what counts tell of each token of the training texts."""
        shape, num_classes = self.model.shape, self.model.num_classes
        told_VC = evidence(rows, labels, num_classes=num_classes, vocab_size=shape.vocab_size)
        plant(self.model.decoder.embedding.weight, told_VC, seed=self.lesson.seed)

    def _more(self, longest: int) -> More:
        """Texts of recombined words, as the teacher sees them."""
        teacher, train, tokenizer = self.lesson.teacher, self.lesson.train, self.tokenizer
        if teacher is None:
            return NO_MORE
        recombination = Recombination([one.text for one in train], seed=self.lesson.seed)

        def of_epoch(epoch: int) -> list[LabelledText]:
            whole = map(tokenizer.encode_prompt, recombination.texts(epoch, self.mixed))
            rows = [tokenizer.cut(ids, longest) for ids in whole]
            # The teacher is to see what the model sees, without what was cut off.
            shares_NC = teacher.shares([tokenizer.decode(ids) for ids in rows])
            weights_N = shares_NC @ self._weights_C
            return list(map(LabelledText, rows, torch.from_numpy(shares_NC), weights_N.tolist()))

        return More(self.mixed, of_epoch)

    def _tuning(self, texts: Sequence[LabelledText], machine: Machine) -> Tuning:
        lesson, model = self.lesson, self.model
        pad_id = self.tokenizer.pad_id
        states, objective = None, class_label
        if lesson.method == "lora":
            add_adapters(model.decoder, lesson.adapters, seed=lesson.seed)
        elif lesson.method == "head":
            below = len(model.blocks) - 1
            freeze_below(model, below)
            rows = [text.ids for text in texts]
            states = states_below(model.to(machine.device, machine.dtype), rows, below, pad_id)
            model.to(torch.float32)
            objective = class_label_above(below)
        batches = ClassBatches(
            texts,
            rows=lesson.rows + self._mixed_rows,
            pad_id=pad_id,
            seed=lesson.seed,
            states=states,
            noise=Noise(lesson.noise, model.shape.vocab_size),
            more=self._more(max(len(text.ids) for text in texts)),
        )
        return Tuning(model, objective, batches, lesson.dose, machine)

    def _logits(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        found = class_logits(self.model, rows, self.tokenizer.pad_id)
        return found.numpy().astype(np.float64)

    def _evaluate(self) -> HeldOut:
        logits_NC, truth = self.validation_logits()
        predicted = logits_NC.argmax(axis=1)
        scores = self.lesson.judge(truth, predicted)
        nats = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits_NC), torch.from_numpy(truth)
        )
        return HeldOut(
            accuracy=scores.accuracy,
            macro_f1=scores.macro_f1,
            loss=float(nats),
            margin=self.lesson.doubt(truth, predicted),
        )


def untuned_logits(
    base: Path, num_classes: int, texts: Sequence[str], machine: Machine, *, seed: int
) -> np.ndarray:
    """The float64 logits (N, C) of a base model as it was given, under a head drawn at random."""
    tokenizer, decoder = tokenizer_for(base), load_model(base, dtype=torch.float32)
    model = classifier_from(decoder, num_classes, seed=seed).to(machine.device, machine.dtype)
    context = model.shape.context
    rows = [tokenizer.cut(tokenizer.encode_prompt(text), context) for text in texts]
    return class_logits(model, rows, tokenizer.pad_id).numpy().astype(np.float64)


def tokenizer_for(base: Path) -> Tokenizer:
    """The tokenizer of a base model, told to end each text by a token that is always the same.

    The head reads the last token, and that one learns to gather what the whole text says. Where
    it is what texts are padded with, too, transformers would not see it, and it is left out.
    """
    tokenizer = Tokenizer.load(base)
    return tokenizer if tokenizer.eos_id == tokenizer.pad_id else tokenizer.with_end()


def describe_score(found: HeldOut) -> dict[str, Any]:
    """A score as the journal holds it."""
    return {
        "val_loss": found.loss,
        "val_accuracy": found.accuracy,
        "val_macro_f1": found.macro_f1,
    }


def class_weights(labels: Sequence[int], *, num_classes: int, is_balanced: bool) -> np.ndarray:
    """How much a text of each class weighs, (C,): 1, or as much more as its class is rarer.

    The mean over all texts stays 1, so that the rate means the same (King and Zeng 2001).
    """
    if not is_balanced:
        return np.ones(num_classes)
    counts = np.bincount(np.asarray(labels), minlength=num_classes)
    rarity = np.minimum(len(labels) / (num_classes * np.maximum(counts, 1)), MOST_WEIGHT)
    return rarity / ((rarity * counts).sum() / len(labels))


def freeze_below(model: Classifier, layers: int) -> None:
    """Let only the blocks from `layers` on, the last norm and the head be trained."""
    model.requires_grad_(False)
    trained = (*model.blocks[layers:], model.decoder.norm, model.score)
    for module in trained:
        module.requires_grad_(True)


@torch.no_grad()
def states_below(
    model: Classifier, rows: Sequence[Sequence[int]], layers: int, pad_id: int
) -> list[Tensor]:
    """The stream (T, D) of each text behind the first blocks, in the model's type, on the CPU."""
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    device = model.score.weight.device
    for some in alike(rows):
        texts = padded([rows[index] for index in some], pad_id, device)
        states_BTD = model.decoder.lower(texts.ids_BT, layers).cpu()
        for index, state_TD in zip(some, states_BTD, strict=True):
            found[index] = state_TD[: len(rows[index])].clone()
    return found
