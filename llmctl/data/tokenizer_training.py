"""Texts -> a new byte-level tokenizer: BPE trained on them, or plain bytes without training.

The vocabulary is the 256 bytes by value, the merges in the order of learning, then the special
tokens. Trained by `tokenizers` alone: gigatoken's trainer is quicker, but breaks ties otherwise
(the tokenizer would depend on what is installed), knows one split, and prints on stdout.
"""

import json
from collections.abc import Iterable
from typing import Literal

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers

from llmctl.data.tokenizer import (
    BYTE_OF_CHARACTER,
    END_OF_TEXT,
    PAD,
    SPECIAL_TOKENS,
    Tokenizer,
)
from llmctl.errors import ConfigError, DataError

Split = Literal["gpt4", "gpt2"]

SMALLEST_VOCABULARY = len(BYTE_OF_CHARACTER) + len(SPECIAL_TOKENS)
# GPT-4's cl100k_base as Llama 3 writes it, the form that other engines recognise by its text.
GPT4_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_bpe(texts: Iterable[str], *, vocab_size: int, split: Split = "gpt4") -> Tokenizer:
    """Train a byte-level BPE tokenizer; the same texts, in any order, give the same tokenizer.

    `vocab_size` counts everything: 256 bytes, the merges and SPECIAL_TOKENS. Little text may
    offer fewer merges; then the vocabulary stays smaller. Raises DataError where it offers none.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ConfigError(
            f"a vocabulary of {vocab_size} has no room for 256 bytes and "
            f"{len(SPECIAL_TOKENS)} special tokens",
            hint=f"choose {SMALLEST_VOCABULARY} or more, or the byte tokenizer",
        )
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = _pre_tokenizer(split)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        min_frequency=2,
        initial_alphabet=list(BYTE_OF_CHARACTER),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
    if not merges and vocab_size > SMALLEST_VOCABULARY:
        raise DataError(
            "the text is too little to train a tokenizer: nothing in it occurs twice",
            hint="collect more text, or use the byte tokenizer",
        )
    return _assemble(merges, learner.pre_tokenizer)


def byte_tokenizer() -> Tokenizer:
    """The tokenizer whose ids are the bytes of a text, and the special tokens after them."""
    return _assemble([], _unsplit())


def _unsplit() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def _pre_tokenizer(split: Split) -> pre_tokenizers.PreTokenizer:
    if split == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    pieces = pre_tokenizers.Split(Regex(GPT4_SPLIT), behavior="isolated")
    return pre_tokenizers.Sequence([pieces, _unsplit()])


def _assemble(
    merges: list[tuple[str, str]], pre_tokenizer: pre_tokenizers.PreTokenizer
) -> Tokenizer:
    """Number the vocabulary and put the parts together as a tokenizer that other tools open."""
    vocabulary = dict(BYTE_OF_CHARACTER)
    for left, right in merges:
        # Two merges may spell the same token.
        vocabulary.setdefault(left + right, len(vocabulary))
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A $B:1",
        special_tokens=[(END_OF_TEXT, backend.token_to_id(END_OF_TEXT))],
    )
    return Tokenizer(
        backend, {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PAD}
    )
