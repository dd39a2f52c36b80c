"""Reference text against raw text -> a light classifier, and the rule that keeps what reads well.

Brown et al. 2020, appendix A: logistic regression over hashed features; a document stays where a
draw from a Pareto distribution with alpha = 9 exceeds one minus its score, so that good text
stays, and a little of the rest. The draw follows from the text, so nobody's luck changes.

There are two classifiers, each taught with half of the texts, and a text is judged by the one that
never saw it: the other has learnt by heart that it is raw.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from safetensors.numpy import load_file, save_file

from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Verdict
from llmctl.durable import appearing
from llmctl.errors import DataError
from llmctl.shards import ShardReader

BUCKETS = 2**18
MOST_DOCUMENTS, FEWEST_DOCUMENTS = 20_000, 20
EPOCHS, RATE = 3, 0.5
FOLDS = 2
PARETO = 9.0
FILE, SCORE = "quality.safetensors", "score.json"


class Score(NamedTuple):
    """How often a classifier is right on the documents that it was not taught with."""

    accuracy: float
    documents: int


@dataclass(frozen=True, slots=True)
class Quality:
    """Drop what reads like raw text rather than like the reference; some of it stays by lot.

    `stamp` tells one model from another that stood in the same folder before.
    """

    model: Path
    stamp: int = 0

    def judge(self, reading: Reading) -> Verdict:
        """The score of the text against its own draw."""
        number = _hash(reading)
        score = _probability(_features(reading), *_weights(self.model, self.stamp, number % FOLDS))
        luck = (1 - number / 2**64) ** (-1 / PARETO) - 1
        return None if luck > 1 - score else Drop("unlike the reference", f"score {score:.2f}")


def train(reference: Sequence[Path], raw: Sequence[Path], place: Path) -> Score:
    """Train on a sample of both sorts of corpora, and write the weights into a new folder."""
    texts = [(one, 1.0) for one in _sample(reference)] + [(one, 0.0) for one in _sample(raw)]
    for wanted, name in ((1.0, "reference"), (0.0, "raw text")):
        number = sum(label == wanted for _, label in texts)
        if number < FEWEST_DOCUMENTS:
            raise DataError(
                f"{number} documents of {name} are too few to learn from",
                hint=f"at least {FEWEST_DOCUMENTS} are needed of each",
            )
    folds: list[list[tuple[np.ndarray, float]]] = [[] for _ in range(FOLDS)]
    for text, label in texts:
        reading = Reading(text)
        folds[_hash(reading) % FOLDS].append((_features(reading), label))
    models = [_fit(folds[1 - fold]) for fold in range(FOLDS)]
    right = sum(
        (_probability(features, *model) > 0.5) == (label > 0.5)
        for fold, model in zip(folds, models, strict=True)
        for features, label in fold
    )
    score = Score(round(right / len(texts), 4), len(texts))
    arrays = {
        "weights": np.stack([weights for weights, _ in models]),
        "bias": np.array([bias for _, bias in models], np.float32),
    }
    with appearing(place) as beside:
        save_file(arrays, beside / FILE)
        (beside / SCORE).write_text(json.dumps(score._asdict()), encoding="utf-8")
    return score


def read_score(place: Path) -> Score:
    """How good the classifier in a folder was found to be."""
    return Score(**json.loads((place / SCORE).read_bytes()))


def _fit(examples: Sequence[tuple[np.ndarray, float]]) -> tuple[np.ndarray, float]:
    """Logistic regression by AdaGrad (Duchi et al. 2011), the sorts weighing the same."""
    weights, squares = np.zeros(BUCKETS, np.float32), np.full(BUCKETS, 1e-4, np.float32)
    bias, bias_square = 0.0, 1e-4
    share = sum(label for _, label in examples) / len(examples)
    # A half may by chance hold one sort only.
    share = min(max(share, 1 / len(examples)), 1 - 1 / len(examples))
    generator = np.random.default_rng(0)
    for _ in range(EPOCHS):
        for at in generator.permutation(len(examples)):
            features, label = examples[at]
            error = (_probability(features, weights, bias) - label) * (
                0.5 / share if label else 0.5 / (1 - share)
            )
            step = error / np.sqrt(max(1, len(features)))
            squares[features] += step * step
            weights[features] -= RATE * step / np.sqrt(squares[features])
            bias_square += error * error
            bias -= RATE * error / bias_square**0.5
    return weights, bias


def _probability(features: np.ndarray, weights: np.ndarray, bias: float) -> float:
    total = float(weights[features].sum()) / max(1, len(features)) ** 0.5 + bias
    return float(1 / (1 + np.exp(-np.clip(total, -30, 30))))


def _features(reading: Reading) -> np.ndarray:
    """The buckets of the words and pairs of words of a text."""
    grams = np.concatenate((reading.grams(1), reading.grams(2)))
    return np.unique(grams >> np.uint64(64 - 18)).astype(np.int64)


def _hash(reading: Reading) -> int:
    """64 bits of the text: its fold by the last of them, its luck by the first."""
    return xxhash.xxh3_64_intdigest(reading.text.encode())


@lru_cache(maxsize=4)
def _weights(model: Path, _stamp: int, fold: int) -> tuple[np.ndarray, float]:
    arrays = load_file(model / FILE)
    return arrays["weights"][fold], float(arrays["bias"][fold])


def _sample(corpora: Sequence[Path]) -> Iterator[str]:
    """Documents at equal distances over all of the corpora."""
    readers = [ShardReader(path) for path in corpora]
    step = max(1, sum(reader.rows for reader in readers) // MOST_DOCUMENTS)
    start = 0
    for reader in readers:
        for batch in reader:
            texts = batch.column("text")
            for row in range(-start % step, len(texts), step):
                yield texts[row].as_py()
            start += len(texts)
