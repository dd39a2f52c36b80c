"""Texts -> texts made of their words, which nobody wrote.

For a model that is to learn what another says of any text: the texts at hand are few, what can be
made of their words is not (Tang et al. 2019, arXiv 1903.12136, section 3.3; Jiao et al. 2020, arXiv
1909.10351, section 3.2). Such a text has no label of its own.
"""

import re
from collections.abc import Sequence

import numpy as np

from llmctl.data.reading import UNSPACED

# A word and the blanks before it, or a character of a script that is written without blanks.
PART = re.compile(rf"\s*(?:{UNSPACED.pattern}|(?:(?!{UNSPACED.pattern})\S)+)")
# Words are taken from so many texts at most, drawn by the seed: more would bring few new ones.
MOST_TEXTS = 20_000
# How often the beginning of a text is joined to the end of another, and how often words are
# replaced; in the rest words are left out. So much of a text changes in the latter two.
JOINED, REPLACED = 0.5, 0.3
LEAST_CHANGED, MOST_CHANGED = 0.1, 0.6


class Recombination:
    """Texts to take words from; what is made of them follows from (seed, epoch) alone."""

    def __init__(self, texts: Sequence[str], *, seed: int) -> None:
        self.seed = seed
        places = range(len(texts))
        if len(texts) > MOST_TEXTS:
            drawn = np.random.default_rng(seed).choice(len(texts), MOST_TEXTS, replace=False)
            places = sorted(drawn.tolist())
        # A word that comes often is held once.
        held: dict[str, str] = {}
        split = ([held.setdefault(part, part) for part in parts(texts[one])] for one in places)
        self._texts = [text for text in split if text]
        self._words = [part for text in self._texts for part in text]

    def texts(self, epoch: int, count: int) -> list[str]:
        """So many texts for an epoch, none of them empty."""
        if not self._texts:
            return []
        random = np.random.default_rng((self.seed, epoch))
        return ["".join(self._made(random)).strip() for _ in range(count)]

    def _made(self, random: np.random.Generator) -> list[str]:
        text = self._texts[random.integers(len(self._texts))]
        way = random.random()
        if way < JOINED:
            other = self._texts[random.integers(len(self._texts))]
            until, since = random.integers(len(text) + 1), random.integers(len(other) + 1)
            return text[:until] + other[since:] or text
        share = random.uniform(LEAST_CHANGED, MOST_CHANGED)
        is_kept = random.random(len(text)) > share
        if way < JOINED + REPLACED:
            others = random.integers(len(self._words), size=len(text))
            return [
                part if kept else self._words[other]
                for part, kept, other in zip(text, is_kept, others, strict=True)
            ]
        return [part for part, kept in zip(text, is_kept, strict=True) if kept] or text


def parts(text: str) -> list[str]:
    """A text as pieces that can stand anywhere in another one.

    >>> parts("The lion sleeps.")
    [' The', ' lion', ' sleeps.']
    """
    begun = text if UNSPACED.match(text) else f" {text}"
    return PART.findall(begun)
