"""Labelled texts -> what a classifier without a language model makes of them.

TF-IDF of words and of characters with a logistic regression over it: strong, quick, and what any
fine-tuned model has to be better than to be worth its price.
"""

from collections.abc import Sequence
from typing import Protocol

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


class Text(Protocol):
    """A text and the number of its class."""

    @property
    def text(self) -> str: ...

    @property
    def label(self) -> int: ...


def baseline_predictions(
    train: Sequence[Text], validation: Sequence[Text], texts: Sequence[str]
) -> NDArray[np.int64]:
    """The classes that the baseline gives to texts, trained and chosen on labelled ones.

    Words in ones and twos, characters in ones to fives within words, both sublinear.
    """
    least = LEAST_TEXTS if len(train) > LARGE else 1
    features = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=least)),
            (
                "characters",
                TfidfVectorizer(
                    analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True, min_df=least
                ),
            ),
        ]
    )
    rows = features.fit_transform([one.text for one in train]).astype(np.float32)
    labels = np.array([one.label for one in train])
    held_out = features.transform([one.text for one in validation]).astype(np.float32)
    truth = np.array([one.label for one in validation])
    best, best_score = None, -1.0
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=MOST_STEPS, tol=1e-3)
        model.fit(rows, labels)
        reached = score(truth, np.asarray(model.predict(held_out))).macro_f1
        if reached > best_score:
            best, best_score = model, reached
    assert best is not None
    return np.asarray(best.predict(features.transform(texts).astype(np.float32)))
