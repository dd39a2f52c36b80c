"""Documents as Arrow text in, token ids as arrays out, by the fastest way that gives the right ids.

Every document begins with the end-of-text id and merges with nothing outside it; special tokens
that its text spells out are ordinary text. The right ids are those of `tokenizers`.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from llmctl.data.tokenizer import Tokenizer
from llmctl.registry import load

# `tokenizers` takes some 50 bytes of memory for each byte of text that it encodes at once.
SLICE_BYTES = 4 << 20
SAMPLE_CHARACTERS = 1 << 20
SAMPLE_CHARACTERS_PER_TEXT = 10_000
# Where splitting and merging go wrong first, if they do.
HARD_TEXTS = (
    "",
    "\x00\x01\x7f\u200b\ufeff\ufffd\U0010ffff",
    "naïve café e\u0301 a\u0308\u0323 \u212b \ufb01 \uff21 ß İ ı",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇨🇭 👍🏽 ☕️ 🫠",
    "שלום עולם \u202eabc\u202c مرحبا بالعالم ١٢٣ हिन्दी क्षत्रिय ไทยแลนด์",
    "日本語のテキスト 中文字符 한국어 \u1100\u1161\u11a8 𠀀𪛖",
    "  two   three    four \t\ttabs\u00a0\u2003\u3000\u0085\u2028\u180espaces  ",
    "line\nline\r\nline\r\r\n\n\n   \n end \n",
    "I'll you're WE'VE don't DON'T it\u2019s 'tis ''s 's 'S '\u017f",
    "1 12 123 1234 12345678 3.14 ½ ² Ⅷ 1,000,000 0x1F",
    "a_b-c/d\\e@f#g$h%i^j&k*l(m)n[o]{p}<q>|r~`...!!!???---===***",
    "ab" * 500,
    " " * 500,
    "é" * 333 + "\n" * 333,
)
# How awkward's `from_buffers` sees an Arrow array of text.
AWKWARD_TEXT = {
    "class": "ListOffsetArray",
    "offsets": "i64",
    "form_key": "text",
    "parameters": {"__array__": "string"},
    "content": {
        "class": "NumpyArray",
        "primitive": "uint8",
        "form_key": "bytes",
        "parameters": {"__array__": "char"},
    },
}


class Encoded(NamedTuple):
    """Documents as ids, one behind the other, and how many ids each has; both count end-of-text."""

    ids: np.ndarray
    counts: np.ndarray


class Encoder(Protocol):
    """A way to encode: `name` says which, `remark` why it is the slow one, where it is."""

    name: str
    remark: str

    def encode(self, texts: pa.Array) -> Encoded:
        """Encode an array of `string` or `large_string`, one document an entry, none null."""
        ...


class UnfitError(Exception):
    """Why an encoder cannot stand in for `tokenizers`."""


def encoder_for(tokenizer: Tokenizer, sample: Iterable[str]) -> Encoder:
    """The fastest encoder that agrees with `tokenizers` on hard cases and a sample of the text.

    Reads the beginnings of the first texts of `sample`, a million characters in all.
    """
    try:
        fast = ByteEncoder(tokenizer) if tokenizer.is_bytes else GigatokenEncoder(tokenizer)
        check_agreement(fast, TokenizersEncoder(tokenizer), _trial_texts(tokenizer, sample))
    except UnfitError as reason:
        return TokenizersEncoder(tokenizer, remark=str(reason))
    return fast


def check_agreement(fast: Encoder, right: Encoder, texts: Iterable[str]) -> None:
    """Raise UnfitError, with the first text for which two encoders give different ids."""
    for text in texts:
        document = pa.array([text], pa.large_string())
        if not np.array_equal(fast.encode(document).ids, right.encode(document).ids):
            raise UnfitError(f"{fast.name} gives other ids for {text[:40]!r}")


class GigatokenEncoder:
    """Encodes by gigatoken, an optional package: buffers in, buffers out, all cores.

    Release 0.10 knows Unicode 17 where `tokenizers` 0.23 knows 16: at the 4,657 letters and digits
    that came in 2025 words may be split elsewhere. All other assigned characters were compared.
    """

    name = "gigatoken"
    remark = ""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        try:
            self._fast = load("gigatoken:Tokenizer").from_json(_without_special(tokenizer))
            self._from_buffers = load("awkward:from_buffers")
        except ImportError as error:
            raise UnfitError("gigatoken is missing: `pip install llmctl[fast]`") from error
        except Exception as error:  # a young library may refuse in many ways
            first_line = str(error).partition("\n")[0]
            raise UnfitError(f"gigatoken cannot read it: {first_line}") from error

    def encode(self, texts: pa.Array) -> Encoded:
        """Encode documents, straight from the buffers of the array."""
        data, offsets = _buffers(texts)
        buffers = {"text-offsets": offsets, "bytes-data": data}
        rows = self._fast.encode_batch(self._from_buffers(AWKWARD_TEXT, len(texts), buffers)).layout
        return _begin_documents(rows.content.data, rows.offsets.data, self._tokenizer)


class TokenizersEncoder:
    """Encodes by `tokenizers`, for any tokenizer: right by definition, and slow."""

    name = "tokenizers"

    def __init__(self, tokenizer: Tokenizer, *, remark: str = "") -> None:
        self._tokenizer = tokenizer
        self.remark = remark

    def encode(self, texts: pa.Array) -> Encoded:
        """Encode documents, a few megabytes at once."""
        rows = [np.array([], self._tokenizer.dtype)]
        for part in _slices(texts, SLICE_BYTES):
            rows += [
                np.array(encoding.ids, self._tokenizer.dtype)
                for encoding in self._tokenizer.verbatim.encode_batch_fast(
                    part.to_pylist(), add_special_tokens=False
                )
            ]
        offsets = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return _begin_documents(np.concatenate(rows), offsets, self._tokenizer)


class ByteEncoder:
    """Encodes for the byte tokenizer: the bytes are the ids."""

    name = "byte"
    remark = ""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, texts: pa.Array) -> Encoded:
        """Encode documents by copying them."""
        data, offsets = _buffers(texts)
        text = data[offsets[0] : offsets[-1]]
        return _begin_documents(text, offsets - offsets[0], self._tokenizer)


def _begin_documents(ids: np.ndarray, offsets: np.ndarray, tokenizer: Tokenizer) -> Encoded:
    """Put the end-of-text id before each document: the i-th is ids[offsets[i] : offsets[i + 1]]."""
    documents = len(offsets) - 1
    out = np.empty(len(ids) + documents, tokenizer.dtype)
    starts = offsets[:-1] + np.arange(documents)
    is_text = np.ones(len(out), bool)
    is_text[starts] = False
    out[starts] = tokenizer.eos_id
    out[is_text] = ids
    return Encoded(out, np.diff(offsets) + 1)


def _buffers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of an Arrow array of text, not copied, and its offsets into them as int64."""
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return np.empty(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    window = np.frombuffer(offsets, width)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8), window.astype(np.int64, copy=False)


def _slices(texts: pa.Array, size: int) -> Iterator[pa.Array]:
    """An array in pieces of about `size` bytes, or of one document that is larger."""
    _, offsets = _buffers(texts)
    start = 0
    while start < len(texts):
        stop = int(np.searchsorted(offsets, offsets[start] + size, side="right")) - 1
        stop = max(stop, start + 1)
        yield texts[start:stop]
        start = stop


def _without_special(tokenizer: Tokenizer) -> str:
    """tokenizer.json without the special tokens, so that none is ever found in a text."""
    document: dict[str, Any] = json.loads(tokenizer.json_text)
    added = document["added_tokens"]
    return json.dumps({**document, "added_tokens": [one for one in added if not one["special"]]})


def _trial_texts(tokenizer: Tokenizer, sample: Iterable[str]) -> Iterator[str]:
    """Hard cases, then the beginnings of the sample's texts up to a million characters."""
    yield from HARD_TEXTS
    special = tokenizer.verbatim.get_added_tokens_decoder().values()
    yield "".join(f"a{token.content} {token.content}b" for token in special)
    left = SAMPLE_CHARACTERS
    for text in sample:
        if left <= 0:
            return
        yield text[:SAMPLE_CHARACTERS_PER_TEXT]
        left -= SAMPLE_CHARACTERS_PER_TEXT
