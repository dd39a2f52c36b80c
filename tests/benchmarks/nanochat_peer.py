"""nanochat's own training script for a stretch of wall time, for `time_to_quality.py`.

Runs in the peers' environment and imports nothing of llmctl. Of nanochat only the text and its
tokenizer are replaced, by the ids that all others read: each document is a window of them. The
first call of two finds how many steps fit into the time; what compiles and what scores is left
out of it.
"""

import contextlib
import json
import os
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from quality_peer import EVAL_ROWS, tell

PILOT = 30


def main() -> None:
    """Train twice, score the held-out text, print one line of JSON."""
    job = json.loads(sys.argv[1])
    data, folder = Path(job["data"]), Path(job["data"]) / "nanochat"
    os.environ["NANOCHAT_BASE_DIR"] = str(folder)
    os.environ["NANOCHAT_DTYPE"] = {"bf16": "bfloat16", "float32": "float32"}[job["precision"]]
    sys.path.insert(0, job["nanochat"])
    meta = json.loads((data / "meta.json").read_text())
    context, end = job["context"], meta["vocab_size"] - 1
    write_documents(data, folder / "base_data_climbmix", context)
    # Imported, never called.
    sys.modules["wandb"] = types.ModuleType("wandb")
    import nanochat.tokenizer as theirs  # noqa: PLC0415

    theirs.get_tokenizer = lambda: Ids(meta["vocab_size"], end)
    theirs.get_token_bytes = lambda device: torch.ones(meta["vocab_size"], device=device)
    _, pace = trained(job, PILOT)
    steps = round(job["seconds"] / pace)
    found, pace = trained(job, steps)
    loss = score(found["orig_model"], data / "val.bin", context, end, job["eval_tokens"])
    tell(job, wall=steps * pace, steps=steps, loss=loss)


class Ids:
    """A tokenizer whose texts are ids, written in decimal."""

    def __init__(self, vocab_size: int, bos: int) -> None:
        self.vocab_size, self.bos = vocab_size, bos

    def get_vocab_size(self) -> int:
        """How many ids there are."""
        return self.vocab_size

    def get_bos_token_id(self) -> int:
        """What begins a document."""
        return self.bos

    def encode(self, texts: list[str], *, prepend: int, num_threads: int) -> list[list[int]]:
        """The ids of documents, each behind what begins it."""
        del num_threads
        return [[prepend, *map(int, text.split())] for text in texts]


def write_documents(data: Path, folder: Path, context: int) -> None:
    """All ids in windows, a document each; the last file is the held-out one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("train", "val")):
        ids = np.fromfile(data / f"{name}.bin", dtype=np.uint16)
        windows = ids[: len(ids) // context * context].reshape(-1, context)
        windows = np.random.default_rng(0).permutation(windows)
        table = pa.table({"text": [" ".join(map(str, row)) for row in windows.tolist()]})
        pq.write_table(table, folder / f"shard_{number:05d}.parquet", row_group_size=4096)


def trained(job: dict[str, Any], steps: int) -> tuple[dict[str, Any], float]:
    """What their script leaves behind, and the mean seconds of a step after the first ten."""
    words = {
        "depth": job["layers"],
        "aspect-ratio": job["width"] // job["layers"],
        "head-dim": job["width"] // job["heads"],
        "window-pattern": "L",
        "max-seq-len": job["context"],
        "device-batch-size": job["batch"],
        "total-batch-size": job["batch"] * job["context"],
        "num-iterations": steps,
        "device-type": "cpu",
        "eval-every": -1,
        "core-metric-every": -1,
        "sample-every": -1,
    }
    sys.argv = ["base_train", *(f"--{key}={value}" for key, value in words.items())]
    with contextlib.redirect_stdout(sys.stderr):
        found = runpy.run_module("scripts.base_train", run_name="__main__")
    return found, found["total_training_time"] / (steps - 11)


@torch.no_grad()
def score(model: Any, path: Path, context: int, bos: int, most: int) -> float:
    """The mean loss over all whole windows of a file, or of its first tokens, each behind `bos`."""
    ids = np.fromfile(path, dtype=np.uint16).astype(np.int64)
    windows = min(len(ids), most) // context
    model.eval()
    total = 0.0
    for first in range(0, windows, EVAL_ROWS):
        rows = ids[first * context : min(first + EVAL_ROWS, windows) * context].reshape(-1, context)
        inputs = np.concatenate((np.full((len(rows), 1), bos), rows[:, :-1]), axis=1)
        loss = model(torch.from_numpy(inputs), torch.from_numpy(rows), loss_reduction="mean")
        total += loss.item() * len(rows)
    return total / windows


if __name__ == "__main__":
    main()
