"""Gopher's rules of repetition: lines, paragraphs and n-grams that come again and again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Verdict

# The n-grams of which the most frequent one is looked at, and those of which all repeats are.
FIRST_TOP, FIRST_REPEATED = 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """Drop text that says the same thing over and over; all figures are shares."""

    most_repeated_lines: float
    most_repeated_line_characters: float
    most_repeated_paragraphs: float
    most_repeated_paragraph_characters: float
    most_top_grams: tuple[float, ...]
    most_repeated_grams: tuple[float, ...]

    def judge(self, reading: Reading) -> Verdict:
        """Lines and paragraphs first: where none repeats, they cost a set each."""
        return (
            _pieces(
                "line",
                reading.lines,
                self.most_repeated_lines,
                self.most_repeated_line_characters,
            )
            or _pieces(
                "paragraph",
                reading.paragraphs,
                self.most_repeated_paragraphs,
                self.most_repeated_paragraph_characters,
            )
            or self._grams(reading)
        )

    def _grams(self, reading: Reading) -> Drop | None:
        lengths = reading.word_lengths
        characters = int(lengths.sum())
        # Where no run of two words comes twice, no longer one does.
        if not characters or not _repeats(reading.grams(FIRST_TOP)).any():
            return None
        for length, most in enumerate(self.most_top_grams, FIRST_TOP):
            share = top_share(reading.grams(length), lengths, length)
            if share > most:
                return Drop(f"top {length}-gram", f"{share:.0%} of the characters")
        for length, most in enumerate(self.most_repeated_grams, FIRST_REPEATED):
            share = repeated_share(reading.grams(length), lengths, length)
            if share > most:
                return Drop(f"repeated {length}-grams", f"{share:.0%} of the characters")
            # Longer runs repeat only where shorter ones do.
            if share == 0:
                break
        return None


def _pieces(name: str, pieces: Sequence[str], most: float, most_characters: float) -> Drop | None:
    distinct = set(pieces)
    repeated = 1 - len(distinct) / max(1, len(pieces))
    if repeated > most:
        return Drop(f"repeated {name}s", f"{repeated:.0%} of them")
    characters = sum(map(len, pieces))
    if repeated and (share := 1 - sum(map(len, distinct)) / characters) > most_characters:
        return Drop(f"repeated {name} characters", f"{share:.0%} of the characters")
    return None


def top_share(grams: np.ndarray, lengths: np.ndarray, length: int) -> float:
    """The share of all characters that the most frequent n-gram covers, if it comes twice."""
    if not len(grams):
        return 0.0
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    # Among equally frequent ones the longest says most.
    at = first[counts == counts.max()]
    if counts.max() < 2:
        return 0.0
    widths = np.concatenate(([0], np.cumsum(lengths)))
    return float((widths[at + length] - widths[at]).max() * counts.max() / lengths.sum())


def repeated_share(grams: np.ndarray, lengths: np.ndarray, length: int) -> float:
    """The share of all characters in n-grams that came before; none is counted twice."""
    starts = np.flatnonzero(_repeats(grams))
    if not len(starts):
        return 0.0
    covered = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.add.at(covered, starts, 1)
    np.add.at(covered, starts + length, -1)
    return float(lengths[np.cumsum(covered[:-1]) > 0].sum() / lengths.sum())


def _repeats(grams: np.ndarray) -> np.ndarray:
    """Whether each n-gram stood somewhere before."""
    is_repeat = np.ones(len(grams), dtype=bool)
    is_repeat[np.unique(grams, return_index=True)[1]] = False
    return is_repeat
