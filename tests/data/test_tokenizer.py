import hashlib
from pydoc_data import topics

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoTokenizer

from llmctl.data.encoders import HARD_TEXTS
from llmctl.data.tokenizer import END_OF_TEXT, SPECIAL_TOKENS, Tokenizer
from llmctl.data.tokenizer_training import SMALLEST_VOCABULARY, byte_tokenizer, train_bpe
from llmctl.errors import ConfigError, DataError

PROSE = sorted(topics.topics.values())


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_bpe(PROSE, vocab_size=2048)


@pytest.fixture(scope="module", params=["gpt4", "gpt2", "byte"])
def tokenizer(request) -> Tokenizer:
    """Each kind of tokenizer that we make."""
    if request.param == "byte":
        return byte_tokenizer()
    return train_bpe(PROSE, vocab_size=2048, split=request.param)


@settings(deadline=None, max_examples=50)
@given(text=st.text())
def test_decoding_gives_back_any_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", [*HARD_TEXTS, "".join(SPECIAL_TOKENS), PROSE[0]])
def test_decoding_gives_back_hard_texts(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_spelt_out_in_a_text_are_ordinary_text(tokenizer):
    special = [tokenizer.encode_prompt(token)[-1] for token in SPECIAL_TOKENS]

    assert not set(special) & set(tokenizer.encode(f"a{''.join(SPECIAL_TOKENS)}b").tolist())


def test_a_prompt_begins_with_the_end_of_text_token_exactly_once(tokenizer):
    hello = tokenizer.encode("Hello").tolist()

    assert tokenizer.encode_prompt("Hello") == [tokenizer.eos_id, *hello]
    assert tokenizer.encode_prompt(END_OF_TEXT + "Hello") == [tokenizer.eos_id, *hello]
    assert tokenizer.encode_prompt("") == [tokenizer.eos_id]


def test_transformers_opens_the_saved_folder_and_gives_the_same_ids(tokenizer, tmp_path):
    tokenizer.save(tmp_path)

    theirs = AutoTokenizer.from_pretrained(tmp_path)

    for text in (*HARD_TEXTS, PROSE[0]):
        ours = tokenizer.encode(text).tolist()
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours
        assert theirs(text)["input_ids"] == [tokenizer.eos_id, *ours]
        assert theirs.decode(ours) == text
    assert list(theirs("Hello")) == ["input_ids", "attention_mask"]
    assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.eos_id, tokenizer.eos_id)
    assert theirs.pad_token_id == tokenizer.pad_id
    assert len(theirs) == tokenizer.vocab_size


def test_a_tokenizer_that_ends_prompts_does_so_for_transformers_and_when_they_are_cut(
    tokenizer, tmp_path
):
    ending = tokenizer.with_end()
    ending.save(tmp_path)

    ours = ending.encode_prompt(PROSE[0])
    theirs = AutoTokenizer.from_pretrained(tmp_path)

    whole = tokenizer.encode(PROSE[0]).tolist()
    assert ours == [tokenizer.eos_id, *whole, tokenizer.eos_id]
    assert ours == theirs(PROSE[0])["input_ids"]
    assert ending.cut(ours, 6) == theirs(PROSE[0], truncation=True, max_length=6)["input_ids"]
    assert tokenizer.cut(tokenizer.encode_prompt(PROSE[0]), 6) == [tokenizer.eos_id, *whole[:5]]


def test_a_saved_tokenizer_comes_back_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)

    for place in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = Tokenizer.load(place)
        assert loaded.digest == tokenizer.digest
        assert loaded.config == tokenizer.config


def test_the_digest_is_the_checksum_of_the_file(tokenizer, tmp_path):
    tokenizer.save(tmp_path)

    file = (tmp_path / "tokenizer.json").read_bytes()

    assert tokenizer.digest == hashlib.sha256(file).hexdigest()


def test_tokenizers_with_other_merges_have_other_digests(trained):
    other = train_bpe(PROSE, vocab_size=2047)

    assert len({one.digest for one in (trained, other, byte_tokenizer())}) == 3


def test_training_on_the_same_texts_in_any_order_gives_the_same_tokenizer(trained):
    again = train_bpe(reversed(PROSE), vocab_size=2048)

    assert again.json_text == trained.json_text


def test_the_vocabulary_is_as_large_as_asked_with_the_special_tokens_at_its_end(trained):
    last = range(2048 - len(SPECIAL_TOKENS), 2048)

    assert trained.vocab_size == 2048
    assert [trained.token_text(token) for token in last] == list(SPECIAL_TOKENS)
    assert [trained.eos_id, trained.im_start_id, trained.im_end_id, trained.pad_id] == [*last[:4]]


def test_bytes_are_their_own_ids_and_special_tokens_follow():
    tokenizer = byte_tokenizer()

    assert tokenizer.encode("\x00é\U0010ffff").tolist() == list("\x00é\U0010ffff".encode())
    assert tokenizer.eos_id == 256
    assert tokenizer.vocab_size == SMALLEST_VOCABULARY


def test_the_gpt4_split_keeps_numbers_short_and_the_gpt2_split_does_not():
    numbers = ["123456789 " * 50]
    short, long = (train_bpe(numbers, vocab_size=290, split=split) for split in ("gpt4", "gpt2"))

    assert len(short.encode("123456789")) == 3
    assert len(long.encode("123456789")) == 1


def test_little_text_gives_a_smaller_vocabulary():
    tokenizer = train_bpe(["the cat and the hat"], vocab_size=4096)

    assert SMALLEST_VOCABULARY < tokenizer.vocab_size < 300


def test_too_small_a_vocabulary_is_refused_with_the_smallest_possible():
    with pytest.raises(ConfigError) as refusal:
        train_bpe(PROSE, vocab_size=SMALLEST_VOCABULARY - 1)

    assert str(SMALLEST_VOCABULARY) in refusal.value.hint


@pytest.mark.parametrize("texts", [[], ["", "a"]])
def test_text_that_teaches_nothing_is_refused(texts):
    with pytest.raises(DataError):
        train_bpe(texts, vocab_size=1024)


def test_half_a_surrogate_pair_is_refused_as_data(trained):
    with pytest.raises(DataError):
        trained.encode_prompt("\ud83d")


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_stream_of_ids_gives_the_same_text_as_all_at_once(tokenizer, data):
    any_id = st.integers(0, tokenizer.vocab_size - 1)
    text_ids = st.text().map(lambda text: tokenizer.encode(text).tolist())
    ids = data.draw(st.lists(any_id) | text_ids)
    stream = tokenizer.decode_stream()

    pieces = [stream.add(token) for token in ids]

    assert "".join(pieces) + stream.finish() == tokenizer.decode(ids)


def test_a_stream_never_shows_half_a_character(tokenizer):
    stream = tokenizer.decode_stream()
    text = "grin 😀 e\u0301 日本"

    pieces = [stream.add(token) for token in tokenizer.encode(text).tolist()]

    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_stream_keeps_the_blanks_that_a_sentencepiece_decoder_strips_at_the_start():
    tokenizer = sentencepiece_like()
    ids = tokenizer.encode("a b a").tolist()
    stream = tokenizer.decode_stream()

    assert [stream.add(token) for token in ids] == ["a", " b", " a"]


def test_a_stream_shows_special_tokens_only_when_asked(trained):
    quiet, open_ = trained.decode_stream(), trained.decode_stream(skip_special=False)

    assert quiet.add(trained.eos_id) + quiet.finish() == ""
    assert open_.add(trained.eos_id) == END_OF_TEXT


def test_tokens_are_shown_as_text_and_parts_of_characters_as_bytes(trained):
    assert [trained.token_text(one) for one in trained.encode(" the")] == [" the"]
    assert trained.token_text(trained.eos_id) == END_OF_TEXT
    assert trained.token_text(0xF0) == "\\xf0"
    assert trained.token_text(2048) == "[2048]"
    assert sentencepiece_like().token_text(1) == " b"


@pytest.mark.parametrize(("size", "dtype"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_ids_are_stored_in_the_smallest_type_that_holds_them_all(size, dtype):
    words = models.WordLevel({"first": 0, "last": size - 1}, unk_token="first")
    tokenizer = Tokenizer(tokenizers.Tokenizer(words), {"eos_token": "first"})

    ids = tokenizer.encode("last")

    assert ids.dtype == dtype
    assert ids.tolist() == [size - 1]


def sentencepiece_like() -> Tokenizer:
    """A tokenizer as Llama 2 has: blanks are `▁`, and the first one is put there and taken away."""
    backend = tokenizers.Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1, "</s>": 2}, "</s>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return Tokenizer(backend, {"eos_token": "</s>"})
