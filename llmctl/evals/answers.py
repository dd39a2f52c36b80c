"""Answers and references -> how alike they are.

Exact match and token F1 as for SQuAD (arXiv 1606.05250, section 6.1), chrF of sacrebleu (Popović
2015) and ROUGE-L of rouge-score (Lin 2004); all from 0 to 1, a value an answer, so that two
models can be compared answer by answer.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.chrf import CHRF

from llmctl.evals.bootstrap import Difference, Interval, mean_difference, mean_interval

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """One way to compare: its mean over all answers, where that lies, and each value."""

    name: str
    mean: float
    interval: Interval
    values: tuple[float, ...]


def compare_answers(answers: Sequence[str], references: Sequence[str]) -> dict[str, Likeness]:
    """Every score of answers against their references."""
    chrf: Any = CHRF()
    rouge: Any = RougeScorer(["rougeL"])
    measures = {
        "exact_match": lambda answer, truth: float(normal(answer) == normal(truth)),
        "token_f1": token_f1,
        "chrf": lambda answer, truth: chrf.sentence_score(answer, [truth]).score / 100,
        "rouge_l": lambda answer, truth: rouge.score(truth, answer)["rougeL"].fmeasure,
    }
    found: dict[str, Likeness] = {}
    for name, measure in measures.items():
        values = [measure(a, r) for a, r in zip(answers, references, strict=True)]
        found[name] = Likeness(
            name=name,
            mean=float(np.mean(values)),
            interval=mean_interval(np.array(values)),
            values=tuple(values),
        )
    return found


def gains(before: Mapping[str, Likeness], after: Mapping[str, Likeness]) -> dict[str, Difference]:
    """How much better one model's answers are than another's, answer by answer."""
    return {
        name: mean_difference(np.array(after[name].values) - np.array(before[name].values))
        for name in after
    }


def normal(text: str) -> str:
    """A text without case, punctuation, articles and superfluous blanks."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall of the words, each counted as often as it stands.

    >>> token_f1("the cat sat", "a cat sat down")
    0.8
    """
    given, true = normal(answer).split(), normal(reference).split()
    shared = sum((Counter(given) & Counter(true)).values())
    if not given or not true:
        return float(given == true)
    return 2 * shared / (len(given) + len(true))
