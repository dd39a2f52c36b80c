"""What the xxh3 checks cost: of reading token shards, of saving and of opening a checkpoint.

    python tests/benchmarks/checksum_cost.py --bench BENCH [--rounds 5]

The checkpoint has the size of the 30M shape's with AdamW: weights and two moments in float32. Files
are in the page cache, so that reading is as fast, and the share of checking as large, as can be.
Medians of rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from llmctl.durable import checksum, damage, sealed_directory
from llmctl.shards import ShardReader

PARAMETERS, MATRICES = 34_000_000, 34
FILES = {"model.safetensors": 1, "optimizer.safetensors": 2}


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    tokens = given.bench / "novels" / "workspace" / "tokens" / "train" / "train"
    arrows = sorted(tokens.glob("*.arrow"))
    report("first reading of token shards", lambda: read(tokens), arrows, given.rounds)
    with tempfile.TemporaryDirectory(dir=given.bench) as name:
        checkpoint = Path(name) / "checkpoint"
        state = {file: tensors(copies) for file, copies in FILES.items()}
        save(state, checkpoint)
        paths = [checkpoint / file for file in FILES]
        report("saving a checkpoint", lambda: save(state, checkpoint), paths, given.rounds)
        report("opening a checkpoint", lambda: load(checkpoint), paths, given.rounds)


def report(name: str, work: Callable[[], object], paths: list[Path], rounds: int) -> None:
    """Time something, and the checksums of the files that it writes or reads."""
    whole = statistics.median(seconds(work) for _ in range(rounds))
    checks = statistics.median(
        seconds(lambda: [checksum(path) for path in paths]) for _ in range(rounds)
    )
    size = sum(path.stat().st_size for path in paths)
    print(
        f"{name:30} {size / 1e6:4.0f} MB  {1e3 * whole:6.1f} ms,"
        f" of it checks {1e3 * checks:5.1f} ms: {checks / whole:.1%}"
    )


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def read(folder: Path) -> int:
    """Add up all ids: the least that anybody does with them."""
    return sum(int(batch.column("ids").flatten().to_numpy().sum()) for batch in ShardReader(folder))


def tensors(copies: int) -> dict[str, torch.Tensor]:
    """Some copies of all weights."""
    count = copies * MATRICES
    return {str(number): torch.randn(PARAMETERS // MATRICES) for number in range(count)}


def save(state: dict[str, dict[str, torch.Tensor]], folder: Path) -> None:
    """Write, sync, seal and rename, as a run does."""
    with sealed_directory(folder) as beside:
        for file, some in state.items():
            save_file(some, beside / file)


def load(folder: Path) -> float:
    """Check and read everything."""
    assert damage(folder) is None
    found = [one for file in FILES for one in load_file(folder / file).values()]
    return float(np.sum([one.sum() for one in found]))


if __name__ == "__main__":
    main()
