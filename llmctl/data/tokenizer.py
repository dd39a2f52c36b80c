"""Text <-> token ids: one tokenizer, its special tokens, and its two files on disk.

`tokenizer.json` and `tokenizer_config.json` are what AutoTokenizer opens. Knows nothing of how a
vocabulary is trained (`tokenizer_training`), of fast encoding (`encoders`) or of the hub.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, processors

from llmctl.data.tokenizer_roles import roles_beside
from llmctl.errors import ConfigError, DataError

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
PAD = "<|pad|>"
SPARES = tuple(f"<|spare_{index}|>" for index in range(12))
# What every tokenizer of ours reserves, so that tuning never resizes a model.
SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END, PAD, *SPARES)

# GPT-2's tokenizer on the text that it is known by: the 39,769,491,688 bytes of OpenWebText
# (its dataset card) make 9,040,017,095 tokens (nanoGPT, data/openwebtext/readme.md).
GPT2_BYTES_PER_TOKEN = 4.40

JSON_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Tokenizer:
    """A `tokenizers.Tokenizer` and the roles of its special tokens.

    `config` holds the part of tokenizer_config.json that tells tokenizers apart: `eos_token`,
    perhaps `bos_token`, `pad_token` and the like, and `chat_template`, all as text.

    >>> from llmctl.data.tokenizer_training import byte_tokenizer
    >>> byte_tokenizer().encode("Hi!").tolist()
    [72, 105, 33]
    """

    def __init__(self, backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
        # Files from outside often carry a greatest length or padding, which would cut documents.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.config = dict(config)
        self.eos_id = _id_of(backend, config["eos_token"])
        self.pad_id = _id_of(backend, config.get("pad_token", config["eos_token"]))
        self.bos_id = backend.token_to_id(config.get("bos_token", ""))
        self.im_start_id = backend.token_to_id(IM_START)
        self.im_end_id = backend.token_to_id(IM_END)

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a tokenizer.json, or the folder that holds one, with the files beside it."""
        file = path / JSON_FILE if path.is_dir() else path
        if not file.is_file():
            raise ConfigError(
                f"there is no tokenizer at `{path}`",
                hint=f"give a folder with a {JSON_FILE}, or that file",
            )
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # `tokenizers` raises nothing narrower
            raise ConfigError(
                f"`{file}` cannot be read as a tokenizer: {error}",
                hint=f"a {JSON_FILE} in the format of Hugging Face's `tokenizers` is needed",
            ) from error
        return cls(backend, roles_beside(file, backend))

    def with_chat_template(self, template: str) -> "Tokenizer":
        """The same tokenizer, whose files tell others how a conversation is written."""
        return Tokenizer(self._backend, {**self.config, "chat_template": template})

    def with_end(self) -> "Tokenizer":
        """The same tokenizer, whose rule puts the end-of-text token behind a prompt, too."""
        end = self.config["eos_token"]
        backend = tokenizers.Tokenizer.from_str(self.json_text)
        rule = processors.TemplateProcessing(
            single=f"$A {end}", pair=f"$A $B:1 {end}:1", special_tokens=[(end, self.eos_id)]
        )
        before = backend.post_processor
        backend.post_processor = processors.Sequence([before, rule]) if before else rule
        return Tokenizer(backend, self.config)

    def save(self, directory: Path) -> None:
        """Write both files into an existing folder; the sha256 of tokenizer.json is `digest`."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
            "pad_token": self._backend.id_to_token(self.pad_id),
            **self.config,
        }
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (directory / CONFIG_FILE).write_text(text, encoding="utf-8")
        (directory / JSON_FILE).write_text(self.json_text, encoding="utf-8")

    @cached_property
    def json_text(self) -> str:
        """What tokenizer.json holds: the same text for the same tokenizer, always."""
        return json.dumps(json.loads(self._backend.to_str()), ensure_ascii=False, sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """The sha256 of tokenizer.json, in hex: tokens of equal digests may be mixed."""
        return hashlib.sha256(self.json_text.encode()).hexdigest()

    @cached_property
    def vocab_size(self) -> int:
        """The rows that an embedding needs: the largest id, special tokens included, and one."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The type of stored ids: the smallest that holds them all."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    @cached_property
    def is_bytes(self) -> bool:
        """Whether an id is the value of a byte, and nothing is ever merged."""
        vocabulary = self._backend.get_vocab(with_added_tokens=False)
        return vocabulary == BYTE_OF_CHARACTER and self._backend.normalizer is None

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """The tokens that steer a model, with their ids: what a text must not hold by chance."""
        added = self._backend.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}

    @cached_property
    def verbatim(self) -> tokenizers.Tokenizer:
        """The backend, told to read special tokens in a text as ordinary characters."""
        twin = tokenizers.Tokenizer.from_str(self.json_text)
        twin.encode_special_tokens = True
        return twin

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text and nothing else: `<|endoftext|>` in it is thirteen characters."""
        return np.array(_ids(self.verbatim, text, add_special_tokens=False), self.dtype)

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of what a model goes on from, by the tokenizer's own rule.

        Special tokens in the text count as such. The one in front stands there once, also where
        the text brings it along; an empty prompt is the start of a document.
        """
        ids = _ids(self._backend, text, add_special_tokens=True)
        if ids[:2] == [self.bos_id] * 2:
            return ids[1:]
        return ids or [self.eos_id]

    def cut(self, ids: list[int], most: int) -> list[int]:
        """At most so many ids of a prompt, of which a token that ends it stays the last."""
        if len(ids) <= most:
            return ids
        return [*ids[: most - 1], self.eos_id] if ids[-1] == self.eos_id else ids[:most]

    def encode_rendered(self, text: str) -> list[int]:
        """The ids of a text that was written for the model: special tokens count, none is added."""
        return _ids(self._backend, text, add_special_tokens=False)

    def decode(self, ids: Sequence[int] | np.ndarray, *, skip_special: bool = True) -> str:
        """The text of ids; bytes that make no whole character become U+FFFD."""
        return self._backend.decode(np.asarray(ids).tolist(), skip_special_tokens=skip_special)

    def decode_stream(self, *, skip_special: bool = True) -> "TextStream":
        """A decoder for ids that come one at a time."""
        return TextStream(self, skip_special=skip_special)

    def token_text(self, token_id: int) -> str:
        r"""One token to show: ` the`, `<|endoftext|>`, `\xe2\x80` for a part of a character."""
        token: str | None = self._backend.id_to_token(token_id)
        if token is None:
            return f"[{token_id}]"
        if not isinstance(self._backend.decoder, decoders.ByteLevel):
            return token.replace(SENTENCEPIECE_BLANK, " ")
        if not BYTE_OF_CHARACTER.keys() >= set(token):
            return token
        return bytes(map(BYTE_OF_CHARACTER.__getitem__, token)).decode(errors="backslashreplace")


class TextStream:
    """Ids in, one at a time; text out as soon as it is whole, never half a character.

    All pieces together are exactly what `Tokenizer.decode` makes of all ids.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        # Some decoders treat the first token apart, so the last ids shown stay in front.
        self._shown: list[int] = []
        self._pending: list[int] = []

    def add(self, token_id: int) -> str:
        """The text that this id completes, often one word, sometimes nothing yet."""
        self._pending.append(token_id)
        text = self._new_text()
        if not text or text.endswith(REPLACEMENT):
            return ""
        self._shown, self._pending = self._pending, []
        return text

    def finish(self) -> str:
        """What is left when no more ids come; a broken character is U+FFFD."""
        text = self._new_text()
        self._shown, self._pending = [], []
        return text

    def _new_text(self) -> str:
        shown = self._decode(self._shown)
        return self._decode(self._shown + self._pending)[len(shown) :]

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special=self._skip_special)


def _id_of(backend: tokenizers.Tokenizer, token: str) -> int:
    number = backend.token_to_id(token)
    assert number is not None, f"{token} has a role but no id"
    return number


def _ids(backend: tokenizers.Tokenizer, text: str, *, add_special_tokens: bool) -> list[int]:
    try:
        return backend.encode(text, add_special_tokens=add_special_tokens).ids
    except TypeError as error:
        raise DataError(
            f"the text {text[:40]!r} is not valid Unicode",
            hint="it holds half of a surrogate pair; was it read with the wrong encoding?",
        ) from error


def _byte_characters() -> list[str]:
    """The printable characters that stand for bytes 0 to 255 in byte-level vocabularies (GPT-2)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    substitutes = map(chr, range(0x100, 0x200))
    return [chr(byte) if byte in printable else next(substitutes) for byte in range(256)]


SENTENCEPIECE_BLANK = "\N{LOWER ONE EIGHTH BLOCK}"
BYTE_OF_CHARACTER = {character: byte for byte, character in enumerate(_byte_characters())}
