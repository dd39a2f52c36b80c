"""What a reader sees while a text is written: whole characters, and no stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.data.tokenizer import Tokenizer
from llmctl.data.tokenizer_training import byte_tokenizer
from llmctl.infer.writing import StopStrings, Writing

ENDS = frozenset({256})


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_tokenizer()


def write(tokenizer: Tokenizer, tokens: list[int], *stops: str) -> tuple[list[str], Writing]:
    writing = Writing(tokenizer.decode_stream(), stops, limit=len(tokens))
    pieces: list[str] = []
    for token in tokens:
        pieces.append(writing.take(token, ENDS))
        if writing.finish_reason:
            break
    return pieces, writing


@given(
    st.lists(st.text("ab", max_size=4), max_size=8),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
)
def test_a_text_ends_before_its_first_stop_string_however_it_is_cut(
    pieces: list[str], stops: list[str]
) -> None:
    found = StopStrings(stops)
    shown: list[str] = []

    for piece in pieces:
        shown.append(found.add(piece))
        assert not any(stop in "".join(shown) for stop in stops)
        if found.is_found:
            break
    shown.append(found.finish())

    whole = "".join(pieces)
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    assert found.is_found == bool(ends)
    assert "".join(shown) == (whole[: min(ends)[1]] if ends else whole)


def test_half_a_character_is_never_shown(tokenizer: Tokenizer) -> None:
    text = "é🙂x"

    pieces, writing = write(tokenizer, list(text.encode()))

    assert pieces == ["", "é", "", "", "", "🙂", "x"]
    assert writing.text == text
    assert writing.finish_reason == "length"


def test_a_text_that_ends_within_a_character_says_so(tokenizer: Tokenizer) -> None:
    _, writing = write(tokenizer, list("né".encode()[:-1]))

    assert writing.text == "n\N{REPLACEMENT CHARACTER}"


def test_a_stop_string_over_several_tokens_is_not_shown(tokenizer: Tokenizer) -> None:
    pieces, writing = write(tokenizer, list(b"one. two.\nthree"), ".\n", "zzz")

    assert writing.text == "".join(pieces) == "one. two"
    assert writing.finish_reason == "stop"
    assert writing.tokens == len("one. two.\n")


def test_what_only_looked_like_a_stop_string_is_shown_after_all(tokenizer: Tokenizer) -> None:
    pieces, writing = write(tokenizer, [*b"ab<|en", 256], "<|end|>")

    assert writing.text == "".join(pieces) == "ab<|en"
    assert writing.finish_reason == "stop"


def test_the_end_of_text_is_neither_written_nor_counted(tokenizer: Tokenizer) -> None:
    _, writing = write(tokenizer, [*b"ab", 256])

    assert (writing.text, writing.tokens, writing.finish_reason) == ("ab", 2, "stop")
