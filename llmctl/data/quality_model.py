"""Reference text against raw text -> a light classifier, and the rule that keeps what reads well.

Brown et al. 2020, appendix A: logistic regression over hashed features; a document stays where a
draw from a Pareto distribution exceeds one minus its score, so that good text stays, and a little
of the rest. Its alpha is the one that matches the scores of reference text, as theirs (9) did. The
draw follows from the text, so nobody's luck changes.

There are two light classifiers, each taught with half of the texts, and a text is judged by the one
that never saw it, nor a copy of it: the other has learnt by heart that it is raw. Any other
classifier may take their place.
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import xxhash
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Verdict
from llmctl.durable import appearing
from llmctl.errors import DataError
from llmctl.shards import ShardReader

BUCKETS = 2**18
MOST_DOCUMENTS, FEWEST_DOCUMENTS = 20_000, 20
# Rarer words are names, by which documents and not their sorts are told apart.
LEAST_SHARE, LEAST_TEXTS = 0.02, 3
# How freely weights grow; the one is taken that says most of texts that were not taught.
FREEDOMS = (0.1, 1.0, 10.0)
ROUNDS = 100
FOLDS = 2
FOLD_WORDS = 5
PARETO, LEAST_PARETO = 9.0, 1.0
SORTS = {1.0: "reference", 0.0: "raw text"}
FILE, SCORE = "quality.safetensors", "score.json"


class Score(NamedTuple):
    """How often a classifier is right on documents that it was not taught with, and its alpha."""

    accuracy: float
    documents: int
    alpha: float


class _Example(NamedTuple):
    """The features of a text, what it is, and its half."""

    features: np.ndarray
    label: float
    fold: int


class Scorer(Protocol):
    """How much a text reads like good text, from 0 to 1: any classifier, sent to any process."""

    def __call__(self, reading: Reading) -> float:
        """The probability that the text is good."""
        ...


@dataclass(frozen=True, slots=True)
class Quality:
    """Drop what reads like raw text rather than like the reference; some of it stays by lot.

    The higher `alpha`, the less of it.
    """

    score: Scorer
    alpha: float = PARETO

    def judge(self, reading: Reading) -> Verdict:
        """The score of the text against its own draw."""
        score = self.score(reading)
        luck = (1 - _hash(reading) / 2**64) ** (-1 / self.alpha) - 1
        return None if luck > 1 - score else Drop("unlike the reference", f"score {score:.2f}")


@dataclass(frozen=True, slots=True)
class Light:
    """The scores of the classifier in a folder.

    `stamp` tells one model from another that stood in the same folder before.
    """

    model: Path
    stamp: int = 0

    def __call__(self, reading: Reading) -> float:
        """The score by the weights that were not taught with the text."""
        known, weights, bias = _weights(self.model, self.stamp)
        features, fold = _features(reading), _fold(reading)
        return _probability(features[known[features]], weights[fold], float(bias[fold]))


def train(reference: Sequence[Path], raw: Sequence[Path], place: Path) -> Score:
    """Train on a sample of both sorts of corpora, and write the weights into a new folder."""
    texts = [(one, 1.0) for one in _sample(reference)] + [(one, 0.0) for one in _sample(raw)]
    for wanted, name in SORTS.items():
        number = sum(label == wanted for _, label in texts)
        if number < FEWEST_DOCUMENTS:
            raise DataError(
                f"{number} documents of {name} are too few to learn from",
                hint=f"at least {FEWEST_DOCUMENTS} are needed of each",
            )
    examples = list(_examples(texts))
    features = [one.features for one in examples]
    labels = np.array([one.label for one in examples])
    folds = np.array([one.fold for one in examples])
    known = _common(features)
    features = [one[known[one]] for one in features]
    taught = [_taught(features, labels, folds, freedom) for freedom in FREEDOMS]
    scores, models = min(taught, key=lambda one: _surprise(one[0], labels))
    score = Score(
        round(float(np.mean((scores > 0.5) == (labels > 0.5))), 4),
        len(labels),
        round(_alpha(scores[labels > 0.5]), 3),
    )
    arrays = {
        "known": known,
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


def _taught(
    features: Sequence[np.ndarray], labels: np.ndarray, folds: np.ndarray, freedom: float
) -> tuple[np.ndarray, list[tuple[np.ndarray, float]]]:
    """The scores of all texts, each by the model of the other fold, and the models."""
    models = [
        _fit(features, labels, np.flatnonzero(folds != fold), freedom) for fold in range(FOLDS)
    ]
    scores = [_probability(one, *models[fold]) for one, fold in zip(features, folds, strict=True)]
    return np.array(scores), models


def _fit(
    features: Sequence[np.ndarray], labels: np.ndarray, chosen: np.ndarray, freedom: float
) -> tuple[np.ndarray, float]:
    """Logistic regression over some of the texts, the sorts weighing the same."""
    if len(set(labels[chosen])) < len(SORTS):  # a half may by chance hold one sort only
        return np.zeros(BUCKETS, np.float32), 0.0
    rows = [features[at] for at in chosen]
    # Most buckets are empty, and the work grows with their number.
    used, columns = np.unique(np.concatenate(rows), return_inverse=True)
    ends = np.cumsum([0, *map(len, rows)])
    values = np.concatenate([np.full(len(one), max(1, len(one)) ** -0.5) for one in rows])
    model = LogisticRegression(C=freedom, class_weight="balanced", max_iter=ROUNDS)
    with warnings.catch_warnings():
        # What is left to gain after so many rounds says more of these texts than of others.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(csr_matrix((values, columns, ends), shape=(len(rows), len(used))), labels[chosen])
    weights = np.zeros(BUCKETS, np.float32)
    weights[used] = model.coef_[0]
    return weights, float(np.ravel(model.intercept_)[0])


def _common(features: Sequence[np.ndarray]) -> np.ndarray:
    """Which features so many texts have that they say something of a sort of text."""
    counts = np.bincount(np.concatenate(features), minlength=BUCKETS)
    return counts >= max(LEAST_TEXTS, LEAST_SHARE * len(features))


def _surprise(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean loss of scores, the sorts weighing the same."""
    right = np.clip(np.where(labels > 0.5, scores, 1 - scores), 1e-6, 1)
    return float(sum(-np.log(right[labels == sort]).mean() for sort in SORTS))


def _alpha(scores: np.ndarray) -> float:
    """The alpha under which draws are spread as one minus the scores of good text are.

    At most that of the paper: a classifier that is too sure of itself would keep nothing new.
    """
    spread = max(float(np.log1p(1 - scores).mean()), 1 / PARETO)
    return max(LEAST_PARETO, 1 / spread)


def _probability(features: np.ndarray, weights: np.ndarray, bias: float) -> float:
    total = float(weights[features].sum()) / max(1, len(features)) ** 0.5 + bias
    return float(1 / (1 + np.exp(-np.clip(total, -30, 30))))


def _features(reading: Reading) -> np.ndarray:
    """The buckets of the words and pairs of words of a text."""
    grams = np.concatenate((reading.grams(1), reading.grams(2)))
    return np.unique(grams >> np.uint64(64 - 18)).astype(np.int32)


def _examples(texts: Iterable[tuple[str, float]]) -> Iterator[_Example]:
    """What is learnt from, each text once however often it was copied."""
    seen: set[int] = set()
    for text, label in texts:
        reading = Reading(text)
        key = _likeness(reading)
        if key not in seen:
            seen.add(key)
            yield _Example(_features(reading), label, _fold(reading))


def _fold(reading: Reading) -> int:
    """The half of a text, that of its near copies too."""
    return (_likeness(reading) >> 8) % FOLDS


def _likeness(reading: Reading) -> int:
    """The least of the shingles of a text, which near copies mostly share."""
    shingles = reading.shingles(FOLD_WORDS)
    return int(shingles[0]) if len(shingles) else 0


def _hash(reading: Reading) -> int:
    """64 bits of the text, from which its luck follows."""
    return xxhash.xxh3_64_intdigest(reading.text.encode())


@lru_cache(maxsize=4)
def _weights(model: Path, _stamp: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arrays = load_file(model / FILE)
    return arrays["known"], arrays["weights"], arrays["bias"]


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
