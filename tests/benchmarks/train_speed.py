"""Training tokens a second of `llmctl pretrain` beside its peers, interleaved, medians.

    python tests/benchmarks/train_speed.py --bench BENCH --shape 10M --python PEERS/venv/bin/python

Peers run in `--python`, an environment with litgpt and transformers; nanoGPT is imported from
`--nanogpt DIR`. Every peer is a loop of its own model, its own loss and AdamW over the same
shape, in bfloat16 by autocast as their trainers do; ours is the command itself. FLOPs a token are
equal but for the head (272 to 65). Says too which share of a step it takes to load its batch.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llmctl.data.batches import TokenStream, TrainingBatches
from llmctl.data.tokenizer import Tokenizer

SHAPES = {
    "10M": {"layers": 6, "heads": 6, "width": 384, "context": 256, "batch": 16},
    "30M": {"layers": 8, "heads": 8, "width": 512, "context": 512, "batch": 8},
}
DATA = {"10M": "shakespeare", "30M": "novels"}


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--peers", default="nanogpt,litgpt,hfllama,hfgpt2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--compile", choices=("on", "off"), default="off")
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--batch", type=int, help="rows of a step, in place of the shape's")
    given = parser.parse_args()
    data = given.bench / DATA[given.shape]
    shape = SHAPES[given.shape] | ({"batch": given.batch} if given.batch else {})
    rates: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for name in ("llmctl", *given.peers.split(",")):
            rate = rate_of(name, data, shape, given)
            rates.setdefault(name, []).append(rate)
            print(f"{name:10} {rate:8,.0f}", file=sys.stderr, flush=True)
    best = max(statistics.median(row) for name, row in rates.items() if name != "llmctl")
    for name, row in rates.items():
        median = statistics.median(row)
        spread = f"[{min(row):,.0f}-{max(row):,.0f}]"
        print(f"{name:10} {median:8,.0f} tokens/s {spread:16} {median / best:.2f} x best peer")
    step = shape["batch"] * shape["context"] / statistics.median(rates["llmctl"])
    load = loading(data, shape)
    print(f"loading a batch takes {1e3 * load:.2f} ms of {1e3 * step:,.0f} ms: {load / step:.3%}")


def rate_of(name: str, data: Path, shape: dict[str, int], given: argparse.Namespace) -> float:
    """The median rate of one run of ours or of a peer's."""
    if name == "llmctl":
        return ours(data, shape, given)
    return peer_rate(given.python, name, data, shape, given)


def ours(data: Path, shape: dict[str, int], given: argparse.Namespace) -> float:
    """The median rate of `llmctl pretrain --optimizer adamw` over its steps."""
    flags = [f"--{key}={value}" for key, value in shape.items()]
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "llmctl", "pretrain", "--json", "--optimizer=adamw"]
        command += [*flags, f"--steps={given.steps}", "--force", f"--compile={given.compile}"]
        command += [f"--precision={given.precision}", "--eval-tokens=2000"]
        place = [f"--workspace={data / 'workspace'}", f"--name=speed-{Path(name).name}"]
        done = subprocess.run([*command, *place], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["facts"]["tokens_per_second"])


def loading(data: Path, shape: dict[str, int]) -> float:
    """The median seconds that a batch takes to come, over a hundred steps."""
    tokens = data / "workspace" / "tokens" / "train"
    batches = TrainingBatches(
        TokenStream(tokens / "train"),
        context=shape["context"],
        rows=shape["batch"],
        end_of_text=Tokenizer.load(tokens).eos_id,
        seed=0,
    )
    taken: list[float] = []
    for step in range(100):
        began = time.perf_counter()
        batches.batch(step)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def peer_rate(
    python: str, peer: str, data: Path, shape: dict[str, int], given: argparse.Namespace
) -> float:
    """The median rate of a peer's loop, in its own environment."""
    worker = Path(__file__).with_name("train_peer.py")
    job = {"peer": peer, "data": str(data), "steps": given.steps, "nanogpt": str(given.nanogpt)}
    job |= {"precision": given.precision, "compile": given.compile}
    command = [python, str(worker), json.dumps(job | shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
