from collections import Counter
from pathlib import Path

import pytest

from llmctl.data.batches import TokenStream, TrainingBatches
from llmctl.data.mixture import BLOCK, MixedBatches, parse_mix
from llmctl.errors import ConfigError
from llmctl.workspace import Workspace

WEIGHTS = [0.6, 0.3, 0.1]


@pytest.fixture
def stream(tiny_workspace: Workspace) -> TokenStream:
    (tokens,) = tiny_workspace.artifacts("tokens")
    return TokenStream(Path(tokens.path) / "train")


def mixed(stream: TokenStream, seed: int = 0) -> MixedBatches:
    parts = [
        TrainingBatches(stream, context=32, rows=4, end_of_text=0, seed=part) for part in range(3)
    ]
    return MixedBatches(parts, WEIGHTS, rows=4, seed=seed)


def test_rows_come_from_each_text_by_its_share(stream: TokenStream) -> None:
    batches = mixed(stream)

    counts = Counter(batches.source(number)[0] for number in range(2 * BLOCK))

    assert [counts[part] for part in range(3)] == [1200, 600, 200]
    assert batches.rows_of(2 * BLOCK) == [1200, 600, 200]


def test_no_row_of_a_text_is_left_out_or_read_twice_in_an_epoch(stream: TokenStream) -> None:
    batches = mixed(stream)

    places = [place for part, place in map(batches.source, range(3 * BLOCK)) if part == 1]

    assert sorted(places) == list(range(900))


def test_which_text_a_row_is_from_depends_on_its_number_and_the_seed_alone(
    stream: TokenStream,
) -> None:
    forwards = [mixed(stream).source(number) for number in range(500, 1500, 7)]
    batches = mixed(stream)

    backwards = [batches.source(number) for number in reversed(range(500, 1500, 7))]

    assert forwards == backwards[::-1]
    assert forwards != [mixed(stream, seed=1).source(number) for number in range(500, 1500, 7)]


def test_the_mix_of_gpt3_is_normalised() -> None:
    shares = parse_mix("gpt3")

    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["commoncrawl"] == pytest.approx(0.60 / 1.01)


@pytest.mark.parametrize("text", ["gpt4", "a=", "a=0", "a=x,b=1", "=1", "a=-1", "a=nan", "a=inf"])
def test_a_mix_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="makes no sense"):
        parse_mix(text)
