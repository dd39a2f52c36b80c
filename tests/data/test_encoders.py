import sys
from pydoc_data import topics

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from llmctl.data import encoders
from llmctl.data.encoders import (
    HARD_TEXTS,
    ByteEncoder,
    Encoder,
    GigatokenEncoder,
    TokenizersEncoder,
    encoder_for,
)
from llmctl.data.tokenizer import BYTE_OF_CHARACTER, SPECIAL_TOKENS, Tokenizer
from llmctl.data.tokenizer_training import byte_tokenizer, train_bpe

PROSE = sorted(topics.topics.values())
# gigatoken knows the letters of Unicode 17, `tokenizers` those of Unicode 16: characters younger
# than this Python are left out, since the two split words at them differently.
ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])
HARD = [*HARD_TEXTS, "".join(SPECIAL_TOKENS), f"a{SPECIAL_TOKENS[0]} b", PROSE[0]]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_bpe(PROSE, vocab_size=2048)


@pytest.fixture(
    scope="module",
    params=["gigatoken, gpt4", "gigatoken, gpt2", "tokenizers, gpt4", "tokenizers, byte", "byte"],
)
def pair(request) -> tuple[Tokenizer, Encoder]:
    """A tokenizer and one of the encoders that serve it."""
    name, _, split = request.param.partition(", ")
    if name == "gigatoken":
        pytest.importorskip("gigatoken")
    plain = split in {"", "byte"}
    tokenizer = byte_tokenizer() if plain else train_bpe(PROSE, vocab_size=2048, split=split)
    makers = {
        "gigatoken": GigatokenEncoder,
        "tokenizers": TokenizersEncoder,
        "byte": ByteEncoder,
    }
    return tokenizer, makers[name](tokenizer)


def documents(encoder: Encoder, texts: pa.Array) -> list[list[int]]:
    ids, counts = encoder.encode(texts)
    assert len(ids) == counts.sum()
    return [part.tolist() for part in np.split(ids, np.cumsum(counts)[:-1])]


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.text(ASSIGNED), min_size=1))
def test_each_document_is_the_end_of_text_id_and_its_own_ids(pair, texts):
    tokenizer, encoder = pair

    rows = documents(encoder, pa.array(texts, pa.large_string()))

    assert rows == [[tokenizer.eos_id, *tokenizer.encode(text).tolist()] for text in texts]


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.text(), min_size=1))
def test_decoding_the_ids_of_any_documents_gives_back_their_texts(pair, texts):
    tokenizer, encoder = pair

    rows = documents(encoder, pa.array(texts, pa.large_string()))

    assert [tokenizer.decode(row) for row in rows] == texts


@pytest.mark.parametrize("arrow_type", [pa.string(), pa.large_string()], ids=str)
@pytest.mark.parametrize("window", [slice(None), slice(3, 9), slice(4, None), slice(0, 0)], ids=str)
def test_a_window_of_an_arrow_array_is_encoded_and_nothing_beside_it(pair, arrow_type, window):
    tokenizer, encoder = pair

    ids, counts = encoder.encode(pa.array(HARD, arrow_type)[window])

    rows = [[tokenizer.eos_id, *tokenizer.encode(text).tolist()] for text in HARD[window]]
    assert ids.tolist() == [token for row in rows for token in row]
    assert counts.tolist() == [len(row) for row in rows]
    assert ids.dtype == tokenizer.dtype


def test_documents_are_encoded_alike_whether_in_one_slice_or_many(trained, monkeypatch):
    texts = pa.array(HARD, pa.string())
    whole = TokenizersEncoder(trained).encode(texts)
    monkeypatch.setattr(encoders, "SLICE_BYTES", 300)

    sliced = TokenizersEncoder(trained).encode(texts)

    assert sliced.ids.tolist() == whole.ids.tolist()
    assert sliced.counts.tolist() == whole.counts.tolist()


@pytest.mark.parametrize("split", ["gpt4", "gpt2"])
def test_our_own_tokenizers_are_encoded_by_gigatoken(split):
    pytest.importorskip("gigatoken")

    encoder = encoder_for(train_bpe(PROSE, vocab_size=1024, split=split), PROSE[:5])

    assert (encoder.name, encoder.remark) == ("gigatoken", "")


def test_the_byte_tokenizer_is_encoded_by_copying():
    encoder = encoder_for(byte_tokenizer(), PROSE[:5])

    assert (encoder.name, encoder.remark) == ("byte", "")


def test_without_gigatoken_the_remark_says_how_to_install_it(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "gigatoken", None)

    encoder = encoder_for(trained, PROSE[:5])

    assert encoder.name == "tokenizers"
    assert "pip install llmctl[fast]" in encoder.remark


def test_a_tokenizer_that_gigatoken_cannot_read_is_encoded_by_tokenizers():
    pytest.importorskip("gigatoken")
    words = models.WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]")

    encoder = encoder_for(Tokenizer(tokenizers.Tokenizer(words), {"eos_token": "[UNK]"}), PROSE[:5])

    assert encoder.name == "tokenizers"
    assert "WordLevel" in encoder.remark
    assert encoder.encode(pa.array(["hello", "you"])).ids.tolist() == [0, 1, 0, 0]


def test_a_difference_that_the_sample_shows_is_enough_to_fall_back():
    pytest.importorskip("gigatoken")
    tokenizer = merging_across_words()

    assert encoder_for(tokenizer, ["plain"]).name == "gigatoken"
    encoder = encoder_for(tokenizer, ["plain", "q z"])

    assert encoder.name == "tokenizers"
    assert "gigatoken gives other ids for 'q z'" in encoder.remark
    assert documents(encoder, pa.array(["q z"])) == [[258, 257]]


def merging_across_words() -> Tokenizer:
    """A tokenizer without a split, which gigatoken takes for one that splits as GPT-2 does."""
    merges = [("Ġ", "z"), ("q", "Ġz")]
    vocabulary = BYTE_OF_CHARACTER | {"Ġz": 256, "qĠz": 257, "<eos>": 258}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend, {"eos_token": "<eos>"})
