"""E-mail: one message (.eml) or many (.mbox) -> what was written, without what is quoted in it."""

import email
import email.policy
import re
from collections.abc import Iterator
from datetime import datetime
from email.message import EmailMessage
from typing import BinaryIO

from llmctl.data.document import Rejected
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.markup import visible_text
from llmctl.data.formats.passage import Item, Options, Passage, Stream, Unreadable

MOST_MESSAGE = 32 * 2**20
FROM = re.compile(rb"From \S+")
QUOTED = re.compile(r"^>.*\n?", re.MULTILINE)
INTRODUCTION = re.compile(
    r"^(?:On|Am|Le|El) .{5,120}(?:wrote|schrieb|écrit|escribió) ?:\s*\n", re.M
)
SIGNATURE = re.compile(r"^-- ?\n.*\Z", re.MULTILINE | re.DOTALL)


def read_message(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """The text of one message with its subject, sender and date, split as asked."""
    with item.open() as file:
        yield from _passages(file.read(MOST_MESSAGE), "", options)


def read_mbox(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """The messages of a mailbox in its order."""
    with item.open() as file:
        for number, content in enumerate(_messages(file), 1):
            try:
                yield from _passages(content, f"#{number}", options)
            except Unreadable as error:
                where = f"{item.name}#{number}"
                yield Rejected(
                    where=where, reason=error.reason, detail=error.detail, bytes=len(content)
                )


def _messages(file: BinaryIO) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    was_blank = True
    for line in file:
        if was_blank and FROM.match(line) and held:
            yield b"".join(held)
            held, size = [], 0
        if not (was_blank and FROM.match(line)) and size < MOST_MESSAGE:
            held.append(line.removeprefix(b">") if line.startswith(b">From ") else line)
            size += len(line)
        was_blank = not line.strip()
    if held:
        yield b"".join(held)


def _passages(content: bytes, number: str, options: Options) -> Iterator[Passage]:
    message = email.message_from_bytes(content, policy=email.policy.default)
    if not message.keys():
        raise Unreadable("no e-mail", "it has no header")
    text = _body(message)
    facts = {
        "title": _header(message, "subject"),
        "from": _header(message, "from"),
        "time": _date(message),
    }
    known = {key: value for key, value in facts.items() if value}
    for key, piece in options.split((text,)):
        yield Passage(f"{number}{key}", piece, known)


def _body(message: EmailMessage) -> str:
    part = message.get_body(preferencelist=("plain", "html"))
    payload = part.get_payload(decode=True) if part is not None else None
    if part is None or not isinstance(payload, bytes):
        raise Unreadable("no text", "the message holds nothing but attachments")
    try:
        text = payload.decode(part.get_content_charset() or "utf-8")
    except (LookupError, UnicodeDecodeError):
        text = "".join(Decoded(Stream(iter([payload]))))
    if part.get_content_type() == "text/html":
        text = visible_text(text)[0]
    text = text.replace("\r\n", "\n")
    return SIGNATURE.sub("", QUOTED.sub("", INTRODUCTION.sub("", text))).strip()


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except (ValueError, IndexError, AttributeError, TypeError):  # headers that break its parser
        return ""


def _date(message: EmailMessage) -> str:
    try:
        stated = message["date"].datetime
    except (ValueError, IndexError, AttributeError, TypeError):
        return ""
    return stated.isoformat() if isinstance(stated, datetime) else ""
