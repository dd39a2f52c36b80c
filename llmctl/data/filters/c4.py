"""C4's rules: lines too poor to be prose removed, pages of code or filler dropped."""

from dataclasses import dataclass

from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Edit, Verdict

SENTENCE_ENDS = (".", "!", "?", '"', "'", "”", "’", "…", "。", "！", "？", "।", "॥", "؟", "۔")


@dataclass(frozen=True, slots=True, kw_only=True)
class C4:
    """Remove short lines; drop pages with braces, with lorem ipsum, or of too few sentences."""

    fewest_words_a_line: int
    longest_word: int
    fewest_sentences: int
    is_brace_dropped: bool
    is_end_required: bool
    filler: tuple[str, ...]

    def judge(self, reading: Reading) -> Verdict:
        """The page first, then its lines, then the sentences that are left."""
        if self.is_brace_dropped and "{" in reading.text:
            return Drop("braces")
        lowered = reading.text.lower()
        for phrase in self.filler:
            if phrase in lowered:
                return Drop("filler", phrase)
        kept = [line for line in reading.lines if self._is_prose(line)]
        left = reading
        if len(kept) < len(reading.lines):
            left = Reading("\n".join(kept))
        if left.sentences < self.fewest_sentences:
            return Drop("few sentences", f"{left.sentences}, at least {self.fewest_sentences}")
        if left is reading:
            return None
        return Edit(left.text, {"lines": len(reading.lines) - len(kept)})

    def _is_prose(self, line: str) -> bool:
        words = line.split()
        # A script without blanks writes a sentence as one word.
        if len(words) < self.fewest_words_a_line and not line.endswith(SENTENCE_ENDS[7:]):
            return False
        if len(line) > self.longest_word and max(map(len, words)) > self.longest_word:
            return False
        return not self.is_end_required or line.endswith(SENTENCE_ENDS)
