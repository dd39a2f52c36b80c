"""Bytes that went wrong -> text mended where it can be, dropped where too much of it is lost."""

import re
from dataclasses import dataclass

from llmctl.data.formats.mending import mend, replace_surrogates
from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Edit, Verdict

# Controls but tab and line feed, soft hyphens, byte-order marks; joiners stay, scripts need them.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\u2060\ufeff]")
LOST = "\ufffd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Mend mojibake and remove what nobody can see; drop text of which too much is lost."""

    most_lost: float

    def judge(self, reading: Reading) -> Verdict:
        """Mojibake, lost characters, controls."""
        text, remarks = mend(replace_surrogates(reading.text))
        counts = dict.fromkeys(remarks, 1)
        if not text.isprintable():
            text, removed = INVISIBLE.subn("", text)
            counts |= {"invisible characters": removed} if removed else {}
        lost = text.count(LOST) / max(1, len(text))
        if lost > self.most_lost:
            return Drop("lost characters", f"{lost:.2%} of them, at most {self.most_lost:.2%}")
        if not text.strip():
            return Drop("empty")
        return Edit(text, counts) if text != reading.text else None
