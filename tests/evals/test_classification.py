import numpy as np
import pytest
from sklearn.metrics import f1_score

from llmctl.data.labeled.classes import Example
from llmctl.evals.answers import compare_answers, gains
from llmctl.evals.baseline import Baseline
from llmctl.evals.bootstrap import doubt, mean_difference
from llmctl.evals.classification import (
    calibration_error,
    classify_report,
    compare,
    fit_temperature,
    score,
)
from llmctl.evals.classifier_report import comparison, contender

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 400)
CLASSES = ("a", "b", "c")


def logits(*, right: float, sharpness: float, seed: int = 1) -> np.ndarray:
    """Logits that name the right class in a share of cases, with so much confidence."""
    random = np.random.default_rng(seed)
    named = np.where(random.random(400) < right, LABELS, (LABELS + 1) % 3)
    found = random.normal(0, 0.1, (400, 3))
    found[np.arange(400), named] += sharpness
    return found


def test_scores_are_those_of_scikit_learn() -> None:
    predicted = logits(right=0.8, sharpness=3).argmax(axis=1)

    found = score(LABELS, predicted)

    assert found.accuracy == pytest.approx((predicted == LABELS).mean())
    assert found.macro_f1 == pytest.approx(f1_score(LABELS, predicted, average="macro"))


def test_a_class_that_the_test_lacks_does_not_pull_the_macro_f1_down() -> None:
    labels = np.array([0, 0, 1, 1])

    found = score(labels, np.array([0, 0, 1, 1]))

    assert found.macro_f1 == 1.0


@pytest.mark.filterwarnings("error")
def test_a_test_of_one_class_is_scored_without_a_warning_of_the_library() -> None:
    found = score(np.zeros(4, dtype=int), np.zeros(4, dtype=int))

    assert (found.accuracy, found.macro_f1, found.mcc) == (1.0, 1.0, 0.0)


def test_the_interval_holds_the_score_and_narrows_with_more_texts() -> None:
    whole = classify_report(logits(right=0.8, sharpness=3), LABELS, CLASSES, ["x"] * 400)
    part = classify_report(logits(right=0.8, sharpness=3)[:50], LABELS[:50], CLASSES, ["x"] * 50)

    near, far = whole.intervals["accuracy"], part.intervals["accuracy"]

    assert near.low < whole.scores.accuracy < near.high
    assert near.high - near.low < far.high - far.low


def test_a_fitted_temperature_takes_the_overconfidence_away() -> None:
    bold = logits(right=0.8, sharpness=12)

    temperature = fit_temperature(bold, LABELS)
    found = classify_report(bold, LABELS, CLASSES, ["x"] * 400, temperature=temperature)

    assert temperature > 2
    assert found.calibration_error < 0.05 < found.raw_calibration_error


def test_perfect_confidence_is_perfectly_calibrated() -> None:
    shares = np.eye(3)[LABELS]

    assert calibration_error(shares, LABELS) == 0.0


def test_the_surest_mistake_comes_first() -> None:
    found = logits(right=1.0, sharpness=3)
    found[7] = np.roll(np.array([9.0, 0.0, 0.0]), (LABELS[7] + 1) % 3)
    texts = [f"text {index}" for index in range(400)]

    report = classify_report(found, LABELS, CLASSES, texts)

    assert [one.text for one in report.mistakes] == ["text 7"]
    assert report.mistakes[0].label == CLASSES[LABELS[7]]


def test_a_better_classifier_is_found_better_and_an_equal_one_is_not() -> None:
    weak = logits(right=0.6, sharpness=3, seed=1).argmax(axis=1)
    strong = logits(right=0.9, sharpness=3, seed=2).argmax(axis=1)

    better = compare(LABELS, weak, strong, 3)["macro_f1"]
    same = compare(LABELS, weak, weak, 3)["macro_f1"]

    assert better.interval.low > 0
    # The least that the draws can tell, which is not zero.
    assert better.p_value == pytest.approx(2 / 2001)
    assert better.told(3).endswith("p < 0.001")
    assert (same.gain, same.p_value) == (0.0, 1.0)


def test_no_gain_is_told_of_a_model_that_stands_alone() -> None:
    predicted = logits(right=0.6, sharpness=3).argmax(axis=1)
    scores = score(LABELS, predicted)

    alone = comparison(scores, [])
    beside = comparison(scores, [contender("other", LABELS, predicted, predicted, seed=0)])

    assert (*alone.columns, "gain of the model in macro-F1") == beside.columns
    assert [*map(len, alone.rows)] == [4]
    assert [*map(len, beside.rows)] == [5, 5]


def test_of_a_few_examples_no_p_value_is_given() -> None:
    few, enough = (mean_difference(np.full(examples, 0.25)) for examples in (9, 10))

    assert (few.p_value, few.told(2)) == (None, "+0.25")
    assert doubt(9)
    assert (enough.told(2), doubt(10)) == ("+0.25 [+0.25, +0.25] p < 0.001", None)


def test_the_baseline_learns_what_words_say() -> None:
    train = [Example(f"good:{n}", f"good day number {n}", 0) for n in range(40)]
    train += [Example(f"bad:{n}", f"bad night number {n}", 1) for n in range(40)]

    baseline = Baseline(train, train[::4], num_classes=3)
    texts = ["a good day", "such a bad night"]

    assert baseline.predictions(texts).tolist() == [0, 1]
    # A class of which there was no text is never expected.
    assert baseline.shares(texts)[:, 2].tolist() == [0, 0]


def test_the_baseline_reads_what_holds_no_word() -> None:
    faces = "😀😡"
    train = [
        Example(f"{face}{n}", face * (1 + n % 5), faces.index(face))
        for n in range(10)
        for face in faces
    ]

    baseline = Baseline(train, train[::3], num_classes=2)

    assert baseline.predictions(["😡😡", "😀"]).tolist() == [1, 0]


def test_answers_are_scored_by_what_they_share_with_the_reference() -> None:
    references = ["The cat sat.", "Paris", "seven"]

    same = compare_answers(["the cat sat", "Paris!", "Seven"], references)
    other = compare_answers(["a dog ran off", "London", "eight"], references)

    assert same["exact_match"].mean == same["token_f1"].mean == 1.0
    assert other["token_f1"].mean == 0.0
    assert gains(other, same)["rouge_l"].gain == pytest.approx(1.0)
