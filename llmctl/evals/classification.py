"""Logits and true labels -> how good a classifier is, and how sure one can be of that.

Scores are scikit-learn's. Two classifiers on the same texts are compared by resampling the texts
for both at once, which takes out what is hard for either.

    N texts, C classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import metrics

from llmctl.evals.bootstrap import (
    Difference,
    Floats,
    Integers,
    Interval,
    difference,
    interval_of,
    resampled,
)

FIGURES = ("accuracy", "macro_f1")
BINS = 10
MOST_MISTAKES = 10
# Temperatures that are tried: from a hundredth to a hundred, 1.05 apart.
TEMPERATURES = np.exp(np.linspace(-4.6, 4.6, 189))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The three figures that sum a classifier up; macro-F1 over the classes that occur."""

    accuracy: float
    macro_f1: float
    mcc: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """How one class fares: shares, and how many texts are of it."""

    name: str
    precision: float
    recall: float
    f1: float
    texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A text that was given a wrong class with much confidence."""

    text: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """All that is said of a classifier on a set of texts.

    `calibration_error` is the expected one over ten bins (arXiv 1706.04599, section 2) after the
    probabilities were tempered; `raw_calibration_error` before. `confusion` counts true classes
    in rows, predicted ones in columns.
    """

    classes: tuple[str, ...]
    scores: Scores
    intervals: dict[str, Interval]
    rows: tuple[ClassRow, ...]
    confusion: tuple[tuple[int, ...], ...]
    temperature: float
    calibration_error: float
    raw_calibration_error: float
    mistakes: tuple[Mistake, ...]
    texts: int

    def facts(self) -> dict[str, Any]:
        """The figures as a manifest holds them."""
        return {
            "accuracy": self.scores.accuracy,
            "macro_f1": self.scores.macro_f1,
            "mcc": self.scores.mcc,
            "intervals": {
                name: [round(one.low, 5), round(one.high, 5)]
                for name, one in self.intervals.items()
            },
            "calibration_error": self.calibration_error,
            "temperature": self.temperature,
            "test_examples": self.texts,
        }


def classify_report(
    logits_NC: Floats,
    labels_N: Integers,
    classes: Sequence[str],
    texts: Sequence[str],
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> Classification:
    """Judge logits against labels; `temperature` is one that was fitted on other texts."""
    predicted_N = logits_NC.argmax(axis=1)
    tempered_NC = softmax(logits_NC / temperature)
    return Classification(
        classes=tuple(classes),
        scores=score(labels_N, predicted_N),
        intervals=_intervals(labels_N, predicted_N, len(classes), seed),
        rows=_rows(labels_N, predicted_N, classes),
        confusion=_confusion(labels_N, predicted_N, len(classes)),
        temperature=float(temperature),
        calibration_error=calibration_error(tempered_NC, labels_N),
        raw_calibration_error=calibration_error(softmax(logits_NC), labels_N),
        mistakes=_mistakes(tempered_NC, labels_N, classes, texts),
        texts=len(labels_N),
    )


def score(labels_N: Integers, predicted_N: Integers) -> Scores:
    """Accuracy, macro-F1 and Matthews' correlation coefficient."""
    most = int(max(labels_N.max(), predicted_N.max())) + 1
    accuracy, macro_f1 = _figures(labels_N, predicted_N, most)
    # Of one class alone nothing is told, which scikit-learn would warn of.
    is_one = len({*labels_N.tolist(), *predicted_N.tolist()}) == 1
    mcc = 0.0 if is_one else float(metrics.matthews_corrcoef(labels_N, predicted_N))
    return Scores(accuracy=float(accuracy), macro_f1=float(macro_f1), mcc=mcc)


def macro_f1_error(labels_N: Integers, predicted_N: Integers) -> float:
    """The standard error of macro-F1, from resamples (Efron, Tibshirani 1993, ch. 6)."""
    most = int(max(labels_N.max(), predicted_N.max())) + 1
    return float(_resampled_figures(labels_N, predicted_N, most, seed=0)[:, 1].std())


def compare(
    labels_N: Integers, before_N: Integers, after_N: Integers, num_classes: int, *, seed: int = 0
) -> dict[str, Difference]:
    """The gain in accuracy and in macro-F1 from one set of predictions to another."""

    def gain(texts: Integers) -> Floats:
        true = labels_N[texts]
        after = _figures(true, after_N[texts], num_classes)
        return after - _figures(true, before_N[texts], num_classes)

    whole = gain(np.arange(len(labels_N)))
    gains = np.array([gain(texts) for texts in resampled(len(labels_N), seed)])
    return {
        name: difference(float(whole[column]), gains[:, column], len(labels_N))
        for column, name in enumerate(FIGURES)
    }


def fit_temperature(logits_NC: Floats, labels_N: Integers) -> float:
    """The temperature under which the labels are likeliest (arXiv 1706.04599, section 4.2)."""
    rows = np.arange(len(labels_N))

    def nats(temperature: float) -> float:
        scaled_NC = logits_NC / temperature
        tops_N = scaled_NC.max(axis=1)
        sums_N = np.exp(scaled_NC - tops_N[:, None]).sum(axis=1)
        return float((np.log(sums_N) + tops_N - scaled_NC[rows, labels_N]).mean())

    return float(min(TEMPERATURES, key=nats))


def calibration_error(shares_NC: Floats, labels_N: Integers) -> float:
    """How far confidence is from accuracy, on average over ten bins of confidence."""
    confidence_N = shares_NC.max(axis=1)
    is_right_N = shares_NC.argmax(axis=1) == labels_N
    bins_N = np.minimum((confidence_N * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins_N, weights=is_right_N - confidence_N, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels_N))


def softmax(logits_NC: Floats) -> Floats:
    """Logits as probabilities."""
    powers_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    return powers_NC / powers_NC.sum(axis=1, keepdims=True)


def _intervals(
    labels_N: Integers, predicted_N: Integers, num_classes: int, seed: int
) -> dict[str, Interval]:
    found = _resampled_figures(labels_N, predicted_N, num_classes, seed)
    return {name: interval_of(found[:, column]) for column, name in enumerate(FIGURES)}


def _resampled_figures(
    labels_N: Integers, predicted_N: Integers, num_classes: int, seed: int
) -> Floats:
    """Both figures of each resample, one a row."""
    return np.array(
        [
            _figures(labels_N[texts], predicted_N[texts], num_classes)
            for texts in resampled(len(labels_N), seed)
        ]
    )


def _figures(labels_N: Integers, predicted_N: Integers, num_classes: int) -> Floats:
    """Accuracy, and macro-F1 over the classes that occur."""
    right_C = np.bincount(labels_N[labels_N == predicted_N], minlength=num_classes)
    true_C = np.bincount(labels_N, minlength=num_classes)
    given_C = np.bincount(predicted_N, minlength=num_classes)
    present = true_C > 0
    f1 = (2 * right_C[present] / (true_C + given_C)[present]).mean()
    return np.array([right_C.sum() / len(labels_N), f1])


def _rows(
    labels_N: Integers, predicted_N: Integers, classes: Sequence[str]
) -> tuple[ClassRow, ...]:
    judge: Any = metrics.precision_recall_fscore_support
    table = judge(labels_N, predicted_N, labels=range(len(classes)), zero_division=0.0)
    return tuple(
        ClassRow(name=name, precision=float(p), recall=float(r), f1=float(f), texts=int(n))
        for name, p, r, f, n in zip(classes, *table, strict=True)
    )


def _confusion(
    labels_N: Integers, predicted_N: Integers, num_classes: int
) -> tuple[tuple[int, ...], ...]:
    counts = metrics.confusion_matrix(labels_N, predicted_N, labels=range(num_classes))
    return tuple(tuple(row) for row in counts.tolist())


def _mistakes(
    shares_NC: Floats,
    labels_N: Integers,
    classes: Sequence[str],
    texts: Sequence[str],
) -> tuple[Mistake, ...]:
    predicted_N = shares_NC.argmax(axis=1)
    wrong = np.flatnonzero(predicted_N != labels_N)
    surest = wrong[np.argsort(-shares_NC[wrong, predicted_N[wrong]], kind="stable")]
    return tuple(
        Mistake(
            text=str(texts[int(one)]),
            label=classes[int(labels_N[one])],
            predicted=classes[int(predicted_N[one])],
            probability=float(shares_NC[one, predicted_N[one]]),
        )
        for one in surest.tolist()[:MOST_MISTAKES]
    )
