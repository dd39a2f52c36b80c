"""Held-out text: always some, always the same, and found without reading a corpus to its end."""

import itertools
from collections.abc import Iterator

import pytest

from llmctl.data.units import UNIT_BYTES, HoldOut

SHORT = [(f"post-{number}", 100) for number in range(3000)]


def test_about_the_share_of_the_documents_is_held_out():
    hold_out = HoldOut(0.05, SHORT)

    held = [name for name, _ in SHORT if hold_out.holds(name)]

    # Within four standard deviations of 150 draws by hash.
    assert len(held) == pytest.approx(150, abs=48)


def test_a_document_stays_on_its_side_when_more_are_collected():
    before, after = HoldOut(0.05, SHORT[:1000]), HoldOut(0.05, SHORT)

    for name, _ in SHORT[:1000]:
        assert before.holds(name) == after.holds(name)


@pytest.mark.parametrize("documents", [1, 2, 40, 100])
def test_something_is_held_out_however_small_the_share(documents: int):
    hold_out = HoldOut(1e-9, SHORT[:documents])

    pieces = [hold_out.pieces(name, b"word " * 20) for name, _ in SHORT[:documents]]

    assert sum(piece.held_out for piece in itertools.chain(*pieces)) == 1


def test_the_pieces_of_a_long_document_are_the_whole_of_it():
    text = b"A paragraph of some length.\n\n" * (20 * UNIT_BYTES // 29)
    hold_out = HoldOut(0.3, [("book", len(text))])

    pieces = list(hold_out.pieces("book", text))

    assert b"".join(text[piece.start : piece.stop] for piece in pieces) == text
    assert {piece.held_out for piece in pieces} == {True, False}


def test_a_large_corpus_is_not_listed_to_choose_what_is_held_out():
    def large() -> Iterator[tuple[str, int]]:
        yield from SHORT
        pytest.fail("read on, though some text was held out already")

    chosen, whole = HoldOut(0.01, large()), HoldOut(0.01, SHORT)

    assert all(chosen.holds(name) == whole.holds(name) for name, _ in SHORT)
