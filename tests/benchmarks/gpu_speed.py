"""How fast one GPU trains: MFU in sixteen and eight bits, with documents, by FSDP; and its peers.

    python tests/benchmarks/gpu_speed.py --python PEERS/bin/python    # one GPU, all in one run
    python tests/benchmarks/gpu_speed.py --device cpu --shapes toy    # does it run at all

Everything is compiled and learns from random tokens in rows of 2,048, by AdamW where nothing else
is said; a run is the loop of `llmctl pretrain` itself, with as many rows at once as fit. MFU counts
causal attention in full (12 L C T a token, as PaLM does), against the datasheet and against the
product that was measured here; `half` counts what a causal kernel computes. A wait is a moment in
a step in which the host stands still for the GPU: one is meant.
"""

import argparse
import json
import statistics
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from llmctl.costs.ranks import RankMemory, rank_memory
from llmctl.data.batches import Batch
from llmctl.model.float8 import compute_in_float8
from llmctl.registry import look_up
from llmctl.shapes import Shape, Size, shape_of
from llmctl.train.distributed.world import ALONE, joined
from llmctl.train.layout import Layout, lay
from llmctl.train.machine import Machine, check_precision
from llmctl.train.meter import matmul_rate, memory_gigabytes
from llmctl.train.objectives import next_token
from llmctl.train.optimizers import OPTIMIZERS
from llmctl.train.probe import first_guess, fitting_rows
from llmctl.train.recipe import Rates
from llmctl.train.schedule import Schedule
from llmctl.train.trainer import Plan, Trainer

VOCABULARY, DOCUMENT = 50304, 500
# Layers, width, width of a head, context; rows of a step; whether the head is the embedding.
SHAPES = {
    "124M": (Size(12, 768, 64, 2048), 64, True),
    "1B": (Size(18, 2048, 128, 2048), 32, False),
    "toy": (Size(2, 64, 16, 256), 4, True),
}
VARIANTS = ("bf16", "muon", "fp8", "documents", "fsdp")
PEERS = ("litgpt", "trainer")
WARM_STEPS = 3
# Of an H100 or H200 in bfloat16, dense.
DATASHEET = 989e12
RATES = Rates(matrix=3e-4, embedding=3e-4, head=3e-4, vector=3e-4, weight_decay=0.1)


class Drawn(NamedTuple):
    """Batches of random tokens, each row one document or many."""

    shape: Shape
    rows: int
    has_documents: bool

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        generator = torch.Generator().manual_seed(step)
        size = (self.rows, self.shape.context + 1)
        ids = torch.randint(self.shape.vocab_size, size, generator=generator)
        inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        begins = torch.rand(inputs.shape, generator=generator) < 1 / DOCUMENT
        segments = begins.cumsum(dim=1) if self.has_documents else None
        return Batch(inputs, targets, segments, targets.numel())


class Found(NamedTuple):
    """Tokens a second by the median step, rows at once, waits in a step, gigabytes at most."""

    tokens_per_second: float
    rows: int
    waits: str
    gigabytes: float


def main() -> None:
    """Measure the products, then each variant and peer at each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", default="124M,1B")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--python", default=sys.executable, help="has litgpt, liger-kernel")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--datasheet", type=float, default=DATASHEET)
    given = parser.parse_args()
    device = torch.device(given.device)
    ceiling = matmul_rate(device, torch.bfloat16, width=8192, seconds=1.0)
    print(f"products in bfloat16: {ceiling / 1e12:.3g} TFLOP/s of {given.datasheet / 1e12:.3g}")
    for name in given.shapes.split(","):
        size, rows, is_tied = SHAPES[name]
        shape = shape_of(size, vocab_size=VOCABULARY, family="llama", tied_head=is_tied)
        print(f"\n{name}: {shape.parameters:,} parameters, {rows} x {shape.context} tokens a step")
        for variant in filter(None, given.variants.split(",")):
            found = ours(variant, shape, rows, device, given.steps)
            say(f"llmctl {variant}", shape, found, (given.datasheet, ceiling))
        for peer in filter(None, given.peers.split(",")):
            found = theirs(peer, shape, rows, given)
            say(peer, shape, found, (given.datasheet, ceiling))


def say(name: str, shape: Shape, found: Found, peaks: Sequence[float]) -> None:
    """A line of the table."""
    whole = shape.flops_per_token()
    half = whole - 6 * shape.num_layers * shape.attention_width * shape.context
    shares = [f"{flops * found.tokens_per_second / peak:.1%}" for peak in peaks
              for flops in (whole, half)]  # fmt: skip
    print(
        f"{name:18} {found.tokens_per_second:10,.0f} tokens/s   MFU {shares[0]} of the datasheet"
        f" (half {shares[1]}), {shares[2]} of the products (half {shares[3]})   {found.rows} rows"
        f" at once, {found.waits} waits, {found.gigabytes:.1f} GB",
        flush=True,
    )


def ours(variant: str, shape: Shape, rows: int, device: torch.device, steps: int) -> Found:
    """The loop of `pretrain`, timed."""
    if variant == "fp8":
        check_precision(device.type, "fp8")
    batches = Drawn(shape, rows, variant == "documents")
    optimizer = "muon" if variant == "muon" else "adamw"

    def need(rows: int) -> RankMemory:
        return rank_memory(shape, optimizer=optimizer, micro_rows=rows)

    with joined(ALONE, device=device, patience=60.0, in_rows=variant == "fsdp"):
        trainer = made(variant, batches, device)
        trainer.micro_rows = fitting_rows(
            trainer, batches.batch(0), need, hint="leave the shape out: `--shapes`"
        )
        trainer.compile()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        taken = [trainer.step().seconds for _ in range(WARM_STEPS + steps)][WARM_STEPS:]
        rate = rows * shape.context / statistics.median(taken)
        found = Found(rate, trainer.micro_rows, waits(trainer), memory_gigabytes(device))
    torch.compiler.reset()
    return found


def made(variant: str, batches: Drawn, device: torch.device) -> Trainer:
    """A model of a shape and what trains it."""
    shape, rows = batches.shape, batches.rows
    layout = Layout(kind="fsdp" if variant == "fsdp" else "alone")
    machine = Machine(device, torch.bfloat16, 1.0)
    model, masters, reduce, spread = lay(
        layout, ALONE, shape, machine, weights=lambda model: model.drawn_weights(0)
    )
    if variant == "fp8":
        compute_in_float8(model.blocks)
    optimizer = "muon" if variant == "muon" else "adamw"
    build = look_up(OPTIMIZERS, optimizer, kind="optimizer", group="optimizers")
    return Trainer(
        model,
        next_token,
        batches,
        masters=masters,
        optimizers=build(
            masters.masters, replace(RATES, matrix=0.02 if variant == "muon" else RATES.matrix),
            torch.bfloat16, spread,
        ),
        plan=Plan(
            steps=10**6, micro_rows=first_guess(rows, shape.context, device),
            schedule=Schedule(warmup=10), clip=1.0, pairwise=False, save_every=10**6,
            save_seconds=1e9, eval_every=10**6, eval_seconds=1e9, reduce=reduce,
        ),
    )  # fmt: skip


def waits(trainer: Trainer) -> str:
    """How often the host stands still for the GPU in a step, as torch counts it."""
    if trainer.device.type != "cuda":
        return "no"
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trainer.step()
    torch.cuda.set_sync_debug_mode("default")
    return str(sum("synchroniz" in str(one.message) for one in seen))


def theirs(peer: str, shape: Shape, rows: int, given: argparse.Namespace) -> Found:
    """A peer's loop in its own environment; it takes the most rows at once that fit, too."""
    worker = Path(__file__).with_name("gpu_peer.py")
    job = {"peer": peer, "device": given.device, "steps": given.steps, "warm": WARM_STEPS}
    sizes = {"layers": shape.num_layers, "width": shape.width, "heads": shape.num_heads}
    sizes |= {"mlp": shape.mlp_width, "context": shape.context, "vocabulary": shape.vocab_size}
    sizes |= {"tied": shape.tied_head}
    at_once = rows
    while True:
        command = [given.python, str(worker), json.dumps(job | sizes | {"rows": at_once})]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            told = json.loads(done.stdout.strip().splitlines()[-1])
            return Found(told["tokens_per_second"], at_once, "unknown", told["gigabytes"])
        if "out of memory" not in done.stderr or at_once == 1:
            raise SystemExit(f"{peer} failed:\n{done.stderr[-2000:]}")
        at_once //= 2


if __name__ == "__main__":
    main()
