"""Bytes -> text: the encoding is found by looking at the bytes, with bounded memory.

Byte order marks first; then UTF-16 and UTF-32 by their zeros; else UTF-8 until a byte is not,
which may be deep in the file: all before it was ASCII then, so that the rest can decide.
"""

import codecs
import io
import re
import unicodedata
from collections.abc import Iterator

from charset_normalizer import CharsetMatches, from_bytes

from llmctl.data.document import Rejected
from llmctl.data.formats.passage import Item, Stream, Unreadable, remark

SAMPLE = 64 * 1024  # bytes that are judged
MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
ZEROS: dict[tuple[bool, ...], str] = {  # at which of four bytes zeros are frequent
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}
# What charset-normalizer may choose from, without rare look-alikes, and whom we believe first
# where it sees no clear winner. The margins were set on the Declaration of Human Rights in 25
# languages and 18 encodings.
CHARSETS = (
    "cp1252 cp932 gb18030 big5 euc_jp cp949 cp1251 koi8_r cp1253 cp1255 cp1256 cp1254 cp1257 "
    "cp1250 iso8859_2 mac_roman"
).split()
CHAOS_MARGIN, COHERENCE_MARGIN = 0.02, 0.05
# Bytes that make no sense as Windows-1252: undefined, or a symbol within a word.
STRAY = re.compile(
    rb"[\x81\x8d\x8f\x90\x9d\xfe\xff]"
    rb"|(?<=[A-Za-z])[\x80\x82-\x84\x86-\x89\x8b\x93\x94\x98\x99\x9b\xa0-\xac\xae-\xb3\xb5\xb6\xb8-\xbf]"
    rb"(?=[A-Za-z])"
)
LEAST_BYTES_A_STRAY = 10_000  # where they are rarer, they are damage
FOREIGN = re.compile(rb"[\x80-\xff]{3}")  # three such letters in a row: hardly ever Western
HIGH = bytes(range(0x80, 0x100))
CONTROLS = bytes({*range(0x20), 0x7F} - {*b"\0\b\t\n\v\f\r\x1a\x1b"})
LEAST_RIGHT = 4  # characters beyond ASCII that are right, for each that is not, in UTF-8
MOST_CONTROLS, MOST_ZEROS, MOST_HIGH = 0.02, 0.3, 0.6
REPLACEMENT = "\ufffd"


class Decoded:
    """The text of a stream in blocks, with `\\n` as line ends; to be read once.

    `encoding` is the best knowledge so far, `replaced` the number of bytes that were nothing in
    it. Raises Unreadable where the bytes are no text.
    """

    def __init__(self, stream: Stream, *, encoding: str | None = None, declared: str = "") -> None:
        self.encoding = codecs.lookup(encoding).name if encoding else inspect(stream.head)
        self.replaced = 0
        self._stream = stream
        self._declared = declared
        self._is_settled = encoding is not None or self.encoding != "utf-8"
        self._has_wide = False
        self._decoder = _decoder(self.encoding, "replace" if self._is_settled else "strict")

    def __iter__(self) -> Iterator[str]:
        for block in self._stream:
            yield self._decode(block)
        yield self._decode(b"", final=True)

    @property
    def facts(self) -> dict[str, str]:
        """The encoding as a fact of the document, where it is not UTF-8."""
        return {} if self.encoding.startswith("utf-8") else {"encoding": self.encoding}

    def remarks(self, item: Item) -> Iterator[Rejected]:
        """What should be counted, once all blocks were read."""
        if self.facts:
            yield remark(item, f"encoding {self.encoding}", "read as that and written as UTF-8")
        if self.replaced:
            yield remark(item, "broken bytes", f"{self.replaced} are no {self.encoding}: U+FFFD")

    def _decode(self, block: bytes, *, final: bool = False) -> str:
        try:
            text = self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            self._settle(error)
            text = self._decoder.decode(error.object, final)
        if self._is_settled:
            self.replaced += text.count(REPLACEMENT)
        self._has_wide = self._has_wide or not text.isascii()
        return text

    def _settle(self, error: UnicodeDecodeError) -> None:
        before = error.object[: error.start].decode()
        if not self._has_wide:
            sample = _sample(error.object, error.start)
            self.encoding = choose(sample, declared=self._declared, seen=_count_wide(before))
        _, state = self._decoder.getstate()
        self._is_settled = True
        self._decoder = _decoder(self.encoding, "replace")
        self._decoder.setstate((b"", state & 1))  # a carriage return may wait for its line feed


def inspect(head: bytes) -> str:
    """The encoding that the first bytes show; `utf-8` is a guess until other bytes turn up.

    Raises Unreadable where they are no text.
    """
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" not in head:
        return "utf-8"
    counts = (head[place:SAMPLE:4] for place in range(4))
    frequent = tuple(part.count(0) > 0.05 * len(part) for part in counts)
    wide = ZEROS.get(frequent, "")
    if wide and _is_text(head[:SAMPLE], wide):
        return wide
    _refuse_binary(head[:SAMPLE])
    return "utf-8"


def choose(sample: bytes, *, declared: str = "", seen: int = 0) -> str:
    """The encoding of bytes that are not UTF-8 as they stand; `declared` is believed.

    UTF-8 with a few broken bytes stays UTF-8: before the sample, `seen` characters beyond ASCII
    were right. Raises Unreadable where the bytes are no text.
    """
    text = sample.decode("utf-8", "replace")
    broken = text.count(REPLACEMENT)
    if seen + _count_wide(text) - broken >= LEAST_RIGHT * broken:
        return "utf-8"
    _refuse_binary(sample)
    return declared or _vote(sample)


def _vote(sample: bytes) -> str:
    high = len(sample) - len(sample.translate(None, HIGH))
    strays = len(STRAY.findall(sample))
    if strays == high and strays * LEAST_BYTES_A_STRAY <= len(sample):
        return "utf-8"
    matches = _matches(sample)
    best = matches.best()
    if not strays and not FOREIGN.search(sample):
        # Most often it is Western. The library takes texts with many accents for chaos, so that
        # only a language that is seen more clearly in another encoding counts.
        western = from_bytes(sample, cp_isolation=["cp1252"], threshold=1.0).best()
        least = (western.coherence if western else 0.0) + COHERENCE_MARGIN
        return best.encoding if best and best.coherence > least else "cp1252"
    if best is None:
        if high > MOST_HIGH * len(sample):
            raise Unreadable("binary", "text in no encoding that is known here")
        return "latin-1"
    likely = {
        name
        for one in matches
        if one.chaos <= best.chaos + CHAOS_MARGIN
        and one.coherence >= best.coherence - COHERENCE_MARGIN
        for name in one.could_be_from_charset
    }
    return next(name for name in CHARSETS if name in likely)


def _matches(sample: bytes) -> CharsetMatches:
    """What the sample may be; its last character may be cut in two."""
    for cut in range(4):
        whole = sample[: len(sample) - cut]
        if matches := from_bytes(whole, cp_isolation=list[str](CHARSETS)):
            return matches
    return CharsetMatches()


def _refuse_binary(sample: bytes) -> None:
    rest = sample.replace(b"\0", b"")
    controls = len(rest) - len(rest.translate(None, CONTROLS))
    zeros = len(sample) - len(rest)
    if controls > MOST_CONTROLS * len(rest) or zeros > MOST_ZEROS * len(sample):
        raise Unreadable("binary", f"{controls} control bytes and {zeros} zeros of {len(sample)}")


def _is_text(sample: bytes, encoding: str) -> bool:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return False
    strange = sum(unicodedata.category(one)[0] == "C" and one not in "\t\n\f\r" for one in text)
    return strange <= MOST_CONTROLS * len(text)


def _sample(data: bytes, start: int) -> bytes:
    """Bytes around the first that are not UTF-8: whole lines, as characters may be long."""
    first = max(data.rfind(b"\n", 0, start) + 1, start - SAMPLE // 2)
    sample = data[first : first + SAMPLE]
    end = sample.rfind(b"\n", start - first) + 1
    return sample[:end] if end else sample


def _count_wide(text: str) -> int:
    return len(text) - len(text.encode("ascii", "ignore"))


def _decoder(encoding: str, errors: str) -> io.IncrementalNewlineDecoder:
    inner = codecs.getincrementaldecoder(encoding)(errors)
    return io.IncrementalNewlineDecoder(inner, translate=True)
