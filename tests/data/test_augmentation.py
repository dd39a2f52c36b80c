import pytest

from llmctl.data import augmentation
from llmctl.data.augmentation import Recombination, parts

TEXTS = [
    "Where is my card?",
    "The transfer never came,\nand nobody answers.",
    "  Two   blanks here ",
    "!",
    "",
]


def words(text: str) -> set[str]:
    return set(text.split())


def test_new_texts_are_made_of_the_words_of_the_given_ones() -> None:
    found = Recombination(TEXTS, seed=1).texts(0, 300)

    assert len(found) == 300
    assert all(found)
    assert set().union(*map(words, found)) <= set().union(*map(words, TEXTS))
    strangers = [text for text in found if text not in {given.strip() for given in TEXTS}]
    assert len(set(strangers)) > 100


def test_they_follow_from_seed_and_epoch_alone() -> None:
    first = Recombination(TEXTS, seed=1)
    drawn = first.texts(5, 40)

    again = Recombination(TEXTS, seed=1)

    assert again.texts(5, 40) == drawn
    assert again.texts(6, 40) != drawn
    assert Recombination(TEXTS, seed=2).texts(5, 40) != drawn


def test_of_a_script_without_blanks_the_characters_are_mixed() -> None:
    found = Recombination(["我的卡在哪里", "转账没有到账"], seed=0).texts(0, 60)

    assert len(set(found)) > 20
    assert not any(" " in text for text in found)


def test_what_stands_between_words_stays_before_them() -> None:
    assert parts("one\n\ntwo  three") == [" one", "\n\ntwo", "  three"]
    assert parts("卡 and 账") == ["卡", " and", " 账"]


def test_of_many_texts_some_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "MOST_TEXTS", 10)

    found = Recombination([f"word{number}" for number in range(1000)], seed=0).texts(0, 300)

    assert len({word for text in found for word in text.split()}) == 10


def test_of_nothing_nothing_is_made() -> None:
    assert Recombination(["", "  "], seed=0).texts(0, 3) == []
