"""Which device a rank computes on."""

import pytest

from llmctl.errors import ConfigError
from llmctl.train.distributed.world import ALONE, World
from llmctl.train.machine import own_gpu

SECOND_OF_TWO = World(rank=3, size=4, local_rank=1, local_size=2)


@pytest.mark.parametrize(
    ("world", "wish", "found", "expected"),
    [
        (ALONE, None, 4, 0),
        (ALONE, 1, 4, 1),
        (SECOND_OF_TWO, None, 2, 1),
        (SECOND_OF_TWO, None, 1, 0),
    ],
)
def test_a_rank_computes_on_its_own_gpu_and_a_single_process_on_the_one_asked_for(
    world: World, wish: int | None, found: int, expected: int
) -> None:
    assert own_gpu(world, wish, found=found) == expected


@pytest.mark.parametrize(
    ("world", "wish", "found", "message"),
    [
        (SECOND_OF_TWO, 1, 2, "`--device cuda:1` is one GPU, for 4 processes"),
        (World(rank=2, size=4, local_rank=2, local_size=4), None, 2, "4 processes .* there are 2"),
    ],
)
def test_a_rank_without_a_gpu_of_its_own_is_refused(
    world: World, wish: int | None, found: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        own_gpu(world, wish, found=found)
