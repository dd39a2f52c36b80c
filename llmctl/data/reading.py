"""A text -> its words, lines, paragraphs and n-gram hashes: split once, shared by all rules.

Words are in lower case. A script that is written without blanks (Han, Kana, Thai, Lao, Khmer,
Burmese) counts each character as a word, since nothing small tells its words apart.
"""

import re
from collections.abc import Iterable
from functools import cached_property, lru_cache

import numpy as np
import xxhash

from llmctl.data.language import identify

# ASCII, Latin-1 and general punctuation, arrows and symbols, full stops of other scripts,
# punctuation of East Asia and its full-width forms.
_BETWEEN = (
    r"\s!-/:-@\[-`{-~\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf"
    r"\u2000-\u206f\u2190-\u2bff\u055a-\u055f\u0589\u05be\u060c\u061b\u061f\u0964\u0965"
    r"\u3000-\u3004\u3008-\u3020\u3030\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40"
    r"\uff5b-\uff65"
)
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_LETTER = f"[^{_BETWEEN}{_UNSPACED}]"
WORD = re.compile(f"{_LETTER}+(?:['’-]{_LETTER}+)*|[{_UNSPACED}]")
UNSPACED = re.compile(f"[{_UNSPACED}]")
BLANK_LINES = re.compile(r"\n\s*\n")
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？।॥؟]")

# Odd, so that no bit of a word's hash is lost as it moves along an n-gram.
_STEP = np.uint64(0x9E3779B97F4A7C15)


@lru_cache(maxsize=2**18)
def hash_word(word: str) -> int:
    """A word as 64 bits, the same on every machine."""
    return xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))


def hash_words(words: list[str]) -> np.ndarray:
    """Each word as a uint64."""
    return np.fromiter(map(hash_word, words), np.uint64, len(words))


class Reading:
    """One text and all that rules ask of it, each worked out when it is first asked for.

    >>> Reading("The lion sleeps. It's late!").words
    ['the', 'lion', 'sleeps', "it's", 'late']
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._grams: list[np.ndarray] = []

    @cached_property
    def bytes(self) -> int:
        """The length of the text in UTF-8."""
        return len(self.text.encode())

    @cached_property
    def words(self) -> list[str]:
        """The words in lower case, without punctuation."""
        return WORD.findall(self.text.lower())

    @cached_property
    def word_hashes(self) -> np.ndarray:
        """The hash of each word, uint64."""
        return hash_words(self.words)

    @cached_property
    def word_lengths(self) -> np.ndarray:
        """The characters of each word."""
        return np.fromiter(map(len, self.words), np.int64, len(self.words))

    @cached_property
    def lines(self) -> list[str]:
        """The lines with something on them, without blanks at their ends."""
        return _stripped(self.text.split("\n"))

    @cached_property
    def paragraphs(self) -> list[str]:
        """What blank lines set apart."""
        return _stripped(BLANK_LINES.split(self.text))

    @cached_property
    def sentences(self) -> int:
        """How many sentences end in the text, at least one a line that ends without a mark."""
        return sum(max(1, len(SENTENCE_END.findall(line))) for line in self.lines)

    @cached_property
    def language(self) -> tuple[str, float]:
        """The ISO 639 code of the language and how sure that is, from 0 to 1."""
        return identify(self.text)

    @property
    def is_english(self) -> bool:
        """Whether rules that know English words apply."""
        return self.language[0] == "en"

    @cached_property
    def is_spaced(self) -> bool:
        """Whether most of the words are set apart by blanks."""
        single = sum(1 for word in self.words if len(word) == 1 and UNSPACED.match(word))
        return 2 * single < max(1, len(self.words))

    def grams(self, length: int) -> np.ndarray:
        """A hash for each run of so many words, uint64, in order; empty where there are too few."""
        if not self._grams:
            self._grams.append(self.word_hashes)
        while len(self._grams) < length:
            shorter, width = self._grams[-1], len(self._grams)
            self._grams.append(shorter[:-1] * _STEP + self.word_hashes[width:])
        return self._grams[length - 1]

    def shingles(self, length: int) -> np.ndarray:
        """The distinct n-grams of a text, sorted; of a shorter text, the whole of it as one."""
        return np.unique(self.grams(max(1, min(length, len(self.words)))))


def _stripped(pieces: Iterable[str]) -> list[str]:
    return [piece for piece in map(str.strip, pieces) if piece]
