"""Lines that every page of a site carries -> text without them."""

import re
from dataclasses import dataclass
from functools import cache

from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Edit, Verdict

CITATION = re.compile(r"\[\d{1,3}\]|\[edit\]|\[citation needed\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Boilerplate:
    """Remove lines of navigation, of consent and of scripts; drop text of nothing else.

    A short line that holds one of `phrases` goes; of `anywhere`, a line of any length.
    """

    anywhere: tuple[str, ...]
    phrases: tuple[str, ...]
    most_words: int

    def judge(self, reading: Reading) -> Verdict:
        """Each line for itself; a text without a suspect phrase is not cut at all."""
        lowered = reading.text.lower()
        anywhere, phrases = _pattern(self.anywhere), _pattern(self.phrases)
        is_suspect = anywhere.search(lowered) or phrases.search(lowered)
        if not is_suspect and "[" not in lowered:
            return None
        kept: list[str] = []
        counts = {"lines": 0, "citation marks": 0}
        for line in reading.text.split("\n"):
            if is_suspect and self._is_boilerplate(line.lower(), anywhere, phrases):
                counts["lines"] += 1
                continue
            told, marks = CITATION.subn("", line) if "[" in line else (line, 0)
            counts["citation marks"] += marks
            kept.append(told)
        text = "\n".join(kept).strip()
        if not text:
            return Drop("nothing else", f"{counts['lines']} lines")
        found = {kind: number for kind, number in counts.items() if number}
        return Edit(text, found) if found else None

    def _is_boilerplate(
        self, line: str, anywhere: re.Pattern[str], phrases: re.Pattern[str]
    ) -> bool:
        if anywhere.search(line):
            return True
        return bool(phrases.search(line)) and len(line.split()) <= self.most_words


@cache
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(phrases))) or r"(?!)")
