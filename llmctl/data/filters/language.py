"""Languages to keep -> text in other languages, or in none that can be told, dropped."""

from dataclasses import dataclass

from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Verdict

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """Keep text in some languages; all of it where none is named, or `all`.

    Who cleans a corpus names its main languages, those of at least `least_share` of its text.
    """

    keep: tuple[str, ...] = ()
    least_confidence: float
    least_share: float

    def judge(self, reading: Reading) -> Verdict:
        """The language, and how sure that is."""
        if not self.keep or ALL in self.keep:
            return None
        code, confidence = reading.language
        if code not in self.keep:
            return Drop("other language", f"{code} ({confidence:.2f})")
        if confidence < self.least_confidence:
            return Drop("unsure language", f"{code} ({confidence:.2f})")
        return None
