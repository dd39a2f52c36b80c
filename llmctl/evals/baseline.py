"""Labelled texts -> what a classifier without a language model makes of them.

TF-IDF of words and of characters with a logistic regression over it: strong, quick, and what any
fine-tuned model has to be better than to be worth its price.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from llmctl.evals.classification import score

BASELINE = "TF-IDF + logistic regression"
# The inverse strength of regularisation, chosen on the validation texts.
STRENGTHS = (1.0, 10.0, 100.0)
# Rarer features than this many texts hold are left out of large sets, where they cost most.
LARGE, LEAST_TEXTS = 2000, 2
MOST_STEPS = 200
TEXTS_AT_ONCE = 4096


class Text(Protocol):
    """A text and the number of its class."""

    @property
    def text(self) -> str: ...

    @property
    def label(self) -> int: ...


class Baseline:
    """The baseline, trained on labelled texts and chosen by others; N texts, C classes.

    Words in ones and twos, characters in ones to fives within words, both sublinear. `macro_f1`
    is what it reaches on those others.
    """

    def __init__(self, train: Sequence[Text], validation: Sequence[Text], num_classes: int) -> None:
        self.num_classes = num_classes
        self._features, rows = _fitted([one.text for one in train])
        labels = [one.label for one in train]
        held_out = self._rows([one.text for one in validation])
        truth = np.array([one.label for one in validation])
        reached: dict[float, LogisticRegression] = {}
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=MOST_STEPS, tol=1e-3)
            model.fit(rows, labels)
            reached.setdefault(score(truth, np.asarray(model.predict(held_out))).macro_f1, model)
        self.macro_f1 = max(reached)
        self._model = reached[self.macro_f1]

    def predictions(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The class (N,) of each text."""
        return self.shares(texts).argmax(axis=1)

    def shares(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """How probable each class is for each text, (N, C)."""
        found = np.zeros((len(texts), self.num_classes), np.float32)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = slice(start, start + TEXTS_AT_ONCE)
            found[some, self._model.classes_] = self._model.predict_proba(self._rows(texts[some]))
        return found

    def _rows(self, texts: Sequence[str]) -> Any:
        return self._features.transform(texts).astype(np.float32)


def _fitted(texts: Sequence[str]) -> tuple[FeatureUnion, Any]:
    """What turns texts into rows, and the rows of these; without words where they hold none."""
    least = LEAST_TEXTS if len(texts) > LARGE else 1
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=least)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True, min_df=least
    )
    parts = [("words", words), ("characters", characters)]
    try:
        features = FeatureUnion(parts)
        rows = features.fit_transform(texts)
    except ValueError:
        # Emoji and single letters are no words to it, and it refuses to have none.
        features = FeatureUnion(parts[1:])
        rows = features.fit_transform(texts)
    return features, rows.astype(np.float32)
