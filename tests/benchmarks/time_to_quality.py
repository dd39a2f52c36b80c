"""What a stretch of wall time buys: `llmctl pretrain --minutes` beside nanoGPT's recipe.

    python tests/benchmarks/time_to_quality.py --bench BENCH --data shakespeare --seconds 16 \
        --python PEERS/venv/bin/python --nanogpt PEERS/nanoGPT [--peer-seconds 80] [--seeds 0,1,2] \
        [--nanochat PEERS/nanochat] [--modded 0.1]

The clock runs from the start of the process to the final weights; evaluation is left out on both
sides. Scores are over the whole held-out text, or the first `--eval-tokens` of it, in windows that
do not overlap. Ours is the command with its default recipe; the peer is nanoGPT's model with the
recipe of its README (AdamW 1e-3, warm-up 100, cosine to 1e-4 over the same time, batch 12 or 8,
gradient clip 1). With `--nanochat` its own script trains for the same time, too, and with
`--modded` a recipe in the style of the modded-nanogpt speedrun, its rates times that number; both
with as many rows a step as nanoGPT, or `--peer-rows`. All compute in `--precision`.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

SHAPES = {
    "shakespeare": {"layers": 4, "heads": 4, "width": 128, "context": 64},
    "novels": {"layers": 4, "heads": 4, "width": 256, "context": 256},
}
PEER_ROWS = {"shakespeare": 12, "novels": 8}


def main() -> None:
    """Train both and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--data", choices=SHAPES, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--peer-seconds", type=float)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--peer-rows", type=int, help="a step; nanoGPT's by default")
    parser.add_argument("--nanochat", type=Path)
    parser.add_argument("--modded", type=float)
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--seeds", default="0,1,2", help="ours, by number; empty for none")
    parser.add_argument("--eval-tokens", type=int, default=10**9)
    given = parser.parse_args()
    for seed in filter(None, given.seeds.split(",")):
        print(ours(given, seed), flush=True)
    if given.nanogpt:
        print(peer(given, "nanoGPT's recipe", recipe="nanogpt"), flush=True)
    if given.modded:
        print(peer(given, f"modded {given.modded}", recipe="modded"), flush=True)
    if given.nanochat:
        print(peer(given, "nanochat's script", recipe="nanochat"), flush=True)


def ours(given: argparse.Namespace, seed: str) -> str:
    """One run of the command."""
    flags = [f"--{key}={value}" for key, value in SHAPES[given.data].items()]
    workspace = given.bench / given.data / "workspace"
    command = [sys.executable, "-m", "llmctl", "pretrain", "--json", "--force", *flags]
    command += [f"--seed={seed}", f"--minutes={given.seconds / 60}", f"--name=quality-{seed}"]
    command += [f"--eval-tokens={given.eval_tokens}", f"--precision={given.precision}"]
    began = time.time()
    done = subprocess.run(
        [*command, f"--workspace={workspace}"], capture_output=True, text=True, check=True
    )
    facts = json.loads(done.stdout)["facts"]
    wall = datetime.fromisoformat(facts["trained_at"]).timestamp() - began - facts["eval_seconds"]
    return told(f"llmctl seed {seed}", wall, facts)


def peer(given: argparse.Namespace, name: str, *, recipe: str) -> str:
    """One run of another's recipe for the same time, or for `--peer-seconds`."""
    data = given.bench / given.data
    job: dict[str, Any] = SHAPES[given.data] | {
        "data": str(data),
        "nanogpt": str(given.nanogpt),
        "nanochat": str(given.nanochat),
        "recipe": recipe,
        "scale": given.modded,
        "batch": given.peer_rows or PEER_ROWS[given.data],
        "seconds": given.peer_seconds or given.seconds,
        "precision": given.precision,
        "eval_tokens": given.eval_tokens,
    }
    script = "nanochat_peer.py" if recipe == "nanochat" else "quality_peer.py"
    worker = Path(__file__).with_name(script)
    done = subprocess.run(
        [given.python, str(worker), json.dumps(job)], capture_output=True, text=True, check=True
    )
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    return told(name, facts["wall"], facts)


def told(name: str, wall: float, facts: dict[str, Any]) -> str:
    """A line of the table."""
    return (
        f"{name:18} {wall:6.1f} s  {facts['steps']:6,} steps  {facts['tokens']:10,} tokens"
        f"  loss {facts['val_loss']:.4f}  {facts['val_bits_per_byte']:.4f} bits per byte"
    )


if __name__ == "__main__":
    main()
