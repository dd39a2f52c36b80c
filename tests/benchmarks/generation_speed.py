"""Tokens a second that `generate` writes, 30M shape, one prompt: our engine beside litgpt.

    python tests/benchmarks/generation_speed.py --bench BENCH --python PEERS/bin/python [--rounds 5]

Random weights, a prompt of 16 tokens, 128 new ones of the likeliest 50, in turns of a process
each; medians. Ours is the whole engine: sampling with a seed, text out, stop strings looked for.
The peer is litgpt's own `generate`, which yields ids.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from llmctl.data.tokenizer import Tokenizer
from llmctl.infer.engine import Engine
from llmctl.infer.sampling import Sampling
from llmctl.model.checkpoint import save_model
from llmctl.model.transformer import fresh
from llmctl.shapes import named_shape

SHAPE = {"layers": 8, "heads": 8, "width": 512, "context": 512}
PROMPT_TOKENS, NEW_TOKENS, TOP_K = 16, 128, 50
TEXT = "It is a truth universally acknowledged, that a single man in possession of a good fortune"
WARM, TIMED = 2, 5


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--families", default="qwen3,llama,gpt2")
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--family", help="time this one alone, here: what the rounds start")
    given = parser.parse_args()
    if given.family:
        print(ours(given.bench, given.family, given.precision))
        return
    rates: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for name in (*given.families.split(","), "litgpt"):
            rate = peer(given) if name == "litgpt" else started(name, given)
            rates.setdefault(name, []).append(rate)
            print(f"{name:8} {rate:6.0f}", file=sys.stderr, flush=True)
    best = statistics.median(rates["litgpt"])
    for name, row in rates.items():
        spread = f"[{min(row):.0f}-{max(row):.0f}]"
        median = statistics.median(row)
        print(f"{name:8} {median:6.0f} tokens/s {spread:12} {median / best:.2f} x litgpt")


def started(family: str, given: argparse.Namespace) -> float:
    """The median rate of our engine, in a process of its own."""
    flags = [f"--bench={given.bench}", f"--family={family}", f"--precision={given.precision}"]
    return last_number([sys.executable, str(Path(__file__)), *flags])


def ours(bench: Path, family: str, precision: Literal["bf16", "float32"]) -> float:
    """The median rate of our engine."""
    tokenizer = Tokenizer.load(bench / "novels" / "workspace" / "tokenizers" / "default")
    shape = named_shape(
        "nano",
        vocab_size=tokenizer.vocab_size,
        family=family,
        num_layers=SHAPE["layers"],
        num_heads=SHAPE["heads"],
        width=SHAPE["width"],
        context=SHAPE["context"],
    )
    with tempfile.TemporaryDirectory() as name:
        save_model(fresh(shape, seed=0).state_dict(), shape, Path(name))
        tokenizer.save(Path(name))
        engine = Engine.open(Path(name), precision=precision)
    prompt = tokenizer.decode(tokenizer.encode_prompt(TEXT)[1 : PROMPT_TOKENS + 1])
    rates: list[float] = []
    for turn in range(WARM + TIMED):
        sampling = Sampling(max_tokens=NEW_TOKENS, top_k=TOP_K, seed=turn)
        began = time.perf_counter()
        (completion,) = engine.generate([prompt], sampling)
        rates.append(completion.tokens / (time.perf_counter() - began))
    return statistics.median(rates[WARM:])


def peer(given: argparse.Namespace) -> float:
    """The median rate of litgpt, in its own environment."""
    job = {
        "precision": given.precision,
        "prompt": PROMPT_TOKENS,
        "new": NEW_TOKENS,
        "top_k": TOP_K,
        "warm": WARM,
        "timed": TIMED,
        "vocab": json.loads((given.bench / "novels" / "meta.json").read_text())["vocab_size"],
    }
    worker = Path(__file__).with_name("generation_peer.py")
    return last_number([given.python, str(worker), json.dumps(job | SHAPE)])


def last_number(command: list[str]) -> float:
    """The number that a command prints last."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
