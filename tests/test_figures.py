import pytest

from llmctl.figures import amount, count, duration, exactly, rate, size


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (1234, "1.2 k"),
        (99_949, "99.9 k"),
        (99_951, "100 k"),
        (999_499, "999 k"),
        (999_500, "1 M"),
        (124e6, "124 M"),
        (1.5e9, "1.5 B"),
        (3e12, "3 T"),
        (4.56e16, "45600 T"),
        (-1500, "-1.5 k"),
    ],
)
def test_a_count_has_a_letter_for_its_thousands(number: float, text: str):
    assert count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.25, "0.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90_061, "1 d 1 h"),
        (float("inf"), "?"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str):
    assert duration(seconds) == text


def test_bytes_are_counted_in_decimal_units():
    assert (size(999), size(1000), size(3.4e9)) == ("999 B", "1 kB", "3.4 GB")
    assert (amount(2e6, "B"), amount(2e6, "files")) == ("2 MB", "2 M files")


def test_a_rate_is_an_amount_in_a_second():
    assert rate(45_000, 2, "tokens") == "22.5 k tokens/s"
    assert rate(9e7, 2, "B") == "45 MB/s"


def test_nothing_has_a_rate_before_time_has_passed():
    assert rate(5, 0, "files") == "0 files/s"


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (1, "documents", "1 document"),
        (1, "entries", "1 entry"),
        (1, "processes", "1 process"),
        (1, "pages", "1 page"),
        (2, "documents", "2 documents"),
        (0, "files", "0 files"),
        (1, "", "1"),
        (1, "B", "1 B"),
    ],
)
def test_one_of_a_kind_is_told_as_one(number: int, unit: str, text: str):
    assert amount(number, unit) == text


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [(1, "entries", "1 entry"), (1_234, "files", "1,234 files"), (0, "GPUs", "0 GPUs")],
)
def test_what_must_be_exact_keeps_every_digit(number: int, unit: str, text: str):
    assert exactly(number, unit) == text
