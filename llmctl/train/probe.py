"""How many rows fit into memory at once, found before the first step rather than at the longest."""

import logging
import resource
from collections.abc import Callable

import psutil
import torch

from llmctl.costs.ranks import RankMemory
from llmctl.errors import TrainingError
from llmctl.model.device import release_memory
from llmctl.train.distributed.world import World
from llmctl.train.feed import StepBatch
from llmctl.train.trainer import Trainer

# Rows beyond this many tokens at once bring no speed on a CPU; a GPU is filled as far as it fits.
CPU_TOKENS, GPU_TOKENS = 16_384, 131_072
# What an allocator cannot use again takes some of what is free now.
HEADROOM = 0.1
logger = logging.getLogger(__name__)


def first_guess(rows: int, context: int, device: torch.device) -> int:
    """The micro-batch to begin with: the whole batch, or as many rows as bring speed."""
    tokens = CPU_TOKENS if device.type == "cpu" else GPU_TOKENS
    return max(1, min(rows, tokens // context))


def fitting_rows(
    trainer: Trainer, longest: StepBatch, memory: Callable[[int], RankMemory], *, hint: str
) -> int:
    """The micro-batch that fits, halving from the trainer's; the global batch stays as it is.

    `memory` says what a rank takes to train on so many of the longest rows; its parameters are
    there already. Runs one forward and backward of the longest batch unless it is sure to fit.
    TrainingError with the hint where one row is too much.
    """
    while True:
        rows = trainer.micro_rows
        free = trainer.world.least(int(_free_bytes(trainer.device, trainer.world)))
        estimate = memory(rows)
        need, spare = estimate.total - estimate.parameters, estimate.optimizer + HEADROOM * free
        if need < free / 4 or (need < free and _all_fit(trainer, longest, int(spare))):
            return rows
        if rows == 1:
            raise TrainingError(
                f"one row of {longest.tokens // longest.rows:,} tokens does not fit into"
                f" {free / 1e9:.1f} GB",
                hint=hint,
            )
        trainer.micro_rows = rows // 2
        logger.warning("%d rows do not fit into memory; trying %d", rows, trainer.micro_rows)


def _free_bytes(device: torch.device, world: World) -> float:
    """What is free on this rank's device; of the host's memory, this rank's part."""
    # What a step that did not fit has left behind is this process's still.
    release_memory(device)
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = float(psutil.virtual_memory().available) / world.local_size
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return free
    return min(free, limit - psutil.Process().memory_info().vms)


def _all_fit(trainer: Trainer, longest: StepBatch, spare: int) -> bool:
    """Whether a step goes through on every rank.

    Where ranks hold parts of the model or of a row, one that ran out of memory would leave the
    others waiting in the middle of a step: there the estimate alone decides.
    """
    world = trainer.world
    if (trainer.masters.is_sharded and not world.is_alone) or world.team_size > 1:
        return True
    (is_too_much,) = world.any(not _fits(trainer, longest, spare))
    return not is_too_much


def _fits(trainer: Trainer, longest: StepBatch, spare: int) -> bool:
    """Whether a step goes through while `spare` bytes are taken by nothing."""
    try:
        ballast = torch.empty(spare, dtype=torch.uint8, device=trainer.device)
        # Two micro-batches: from the second on, the sum of the first is held beside.
        some = longest.micro(0, 2 * trainer.micro_rows * trainer.world.teams)
        trainer.accumulate(trainer.feed.cut(some, trainer.micro_rows))
        del ballast
    except torch.OutOfMemoryError:
        return False
    except RuntimeError as error:
        # What torch says when malloc fails on a CPU; it has no class of its own.
        if "can't allocate memory" not in str(error):
            raise
        return False
    finally:
        for parameter in trainer.masters.parameters:
            parameter.grad = None
    return True
