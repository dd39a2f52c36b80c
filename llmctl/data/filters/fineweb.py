"""FineWeb's own rules: lines without an end, short lines, repeated lines, lists."""

from dataclasses import dataclass

from llmctl.data.filters.c4 import SENTENCE_ENDS
from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class FineWeb:
    """Drop pages that are lists rather than prose; all figures are shares but the length."""

    fewest_ended_lines: float
    most_short_lines: float
    short_line: int
    most_repeated_characters: float
    most_line_breaks_a_word: float

    def judge(self, reading: Reading) -> Verdict:
        """Everything is about lines."""
        lines = reading.lines
        if not lines or not reading.words:
            return Drop("empty")
        ended = sum(line.endswith(SENTENCE_ENDS) for line in lines) / len(lines)
        if ended < self.fewest_ended_lines:
            return Drop("lines without an end", f"{1 - ended:.0%} of the lines")
        short = sum(len(line) <= self.short_line for line in lines) / len(lines)
        if short > self.most_short_lines:
            return Drop("short lines", f"{short:.0%} of the lines")
        repeated = 1 - sum(map(len, set(lines))) / sum(map(len, lines))
        if repeated > self.most_repeated_characters:
            return Drop("repeated lines", f"{repeated:.1%} of the characters")
        breaks = reading.text.count("\n") / len(reading.words)
        if breaks > self.most_line_breaks_a_word:
            return Drop("list", f"{breaks:.2f} line breaks a word")
        return None
