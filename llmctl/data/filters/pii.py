"""Personal data -> placeholders: e-mail addresses, telephone numbers, IP addresses, cards.

It is better to leave a number that only looks like a telephone's than to tear dates, prices and
catalogue numbers out of the text: a form must be written the way that people write it.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmctl.data.reading import Reading
from llmctl.data.verdict import Edit, Verdict

EMAIL = re.compile(
    r"\b[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}\b"
)
CARD = re.compile(r"(?<![\w.-])(?:\d[ -]?){12,18}\d(?![\w-])(?!\.\d)")
IP_4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
IP_6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])")
PHONE = re.compile(
    # With a country's code: +49 (0)30 1234-5678, 0044 20 7946 0958.
    r"(?<![\w+])(?:\+|00)[1-9]\d{0,2}(?:[ .\-/]?\(?\d{1,5}\)?){2,5}(?!\w)"
    # North America: (555) 010-9999, 555-010-9999, 555.010.9999.
    r"|(?<![\w.+-])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])\d{3}[ .-]\d{4}(?![\w-])"
)
DIGITS = re.compile(r"\d")
FEWEST_DIGITS, MOST_DIGITS = 8, 15  # ITU-T E.164: at most 15; fewer than 8 is no full number


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalData:
    """Put a placeholder in the place of what belongs to one person; drops nothing."""

    email: str
    phone: str
    ip: str
    card: str

    def judge(self, reading: Reading) -> Verdict:
        """Cards before telephones: the digits of one would pass for the other."""
        text, counts = reading.text, dict[str, int]()
        for kind, found, placeholder in (
            ("e-mails", _emails, self.email),
            ("IP addresses", _addresses, self.ip),
            ("cards", _cards, self.card),
            ("telephones", _phones, self.phone),
        ):
            spans = list(found(text))
            if spans:
                text = _replaced(text, spans, placeholder)
                counts[kind] = len(spans)
        return Edit(text, counts) if counts else None


def _replaced(text: str, spans: list[tuple[int, int]], placeholder: str) -> str:
    pieces: list[str] = []
    done = 0
    for start, end in sorted(spans):
        pieces += (text[done:start], placeholder)
        done = end
    return "".join((*pieces, text[done:]))


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text:
        yield from (match.span() for match in EMAIL.finditer(text))


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    """Addresses that the whole world can reach: a private one names nobody."""
    patterns = [IP_4] if "." in text else []
    patterns += [IP_6] if "::" in text or text.count(":") > 3 else []
    for pattern in patterns:
        for match in pattern.finditer(text):
            try:
                is_public = ipaddress.ip_address(match[0]).is_global
            except ValueError:
                continue
            if is_public:
                yield match.span()


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in CARD.finditer(text):
        digits = DIGITS.findall(match[0])
        if 13 <= len(digits) <= 19 and is_card(digits):
            yield match.span()


def is_card(digits: list[str]) -> bool:
    """Whether the last digit is the check digit of the others (Luhn 1960, ISO/IEC 7812-1).

    >>> is_card(list("4111111111111111")), is_card(list("4111111111111112"))
    (True, False)
    """
    # Issuers begin with 2 to 6; a run of one digit passes the sum and is no card.
    if digits[0] not in "23456" or len(set(digits)) == 1:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in PHONE.finditer(text):
        if FEWEST_DIGITS <= len(DIGITS.findall(match[0])) <= MOST_DIGITS:
            yield match.span()
