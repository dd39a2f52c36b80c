"""How tokens a second, memory and the time for a checkpoint grow with model, context and ranks.

    python tests/benchmarks/growth.py --text BENCH/novels/train --out RUNS [--only model,ranks]

Every line is runs of `pretrain` in processes of their own. Memory is that of the largest process,
report included. A checkpoint costs what the loop waits for it, and what the steps beside which it
is written take longer than others. Lines beyond this machine are what `estimate-cost` says, and
are marked so. The picture is RUNS/growth.png.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from runs import workspace_of

from llmctl.figures import exactly
from llmctl.shapes import named_shape
from llmctl.workspace import Workspace

VOCABULARY = 8192
# In a step, but where ranks are compared.
TOKENS = 1024
# Checkpoints come every so many steps; each slows so many of them down.
SAVE_EVERY, SLOWED = 4, 1
PARTS = ("model", "context", "ranks", "beyond")
# What is assumed of a disk beyond this machine, in bytes a second of each node of eight GPUs.
DISK = 2e9


class Line(NamedTuple):
    """A line of the table: `save` in seconds, None where nothing was saved."""

    part: str
    name: str
    rate: float
    memory: float
    save: float | None


def main() -> None:
    """Measure what is asked for, print each line when it is known, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="of the ranks, by turns")
    parser.add_argument("--steps", type=int, default=8, help="of the ranks, in a round")
    parser.add_argument("--precision", choices=("auto", "bf16", "float32"), default="bf16")
    given = parser.parse_args()
    workspace = workspace_of(given.text, given.out, str(VOCABULARY))
    lines: list[Line] = []
    for line in measured(workspace, given):
        print(told(line), flush=True)
        lines.append(line)
    draw(lines, given.out / "growth.png")


def measured(workspace: Workspace, given: argparse.Namespace) -> Iterator[Line]:
    """The lines of the parts that are asked for."""
    parts = given.only.split(",")
    if "model" in parts:
        for size in ("nano", "tiny", "mini"):
            knobs = {"size": size, "context": 512, "batch": TOKENS // 512}
            one = trained(workspace, knobs | {"steps": 4 * SAVE_EVERY, "save_every": SAVE_EVERY})
            yield Line(
                "model", f"{size}, {one.parameters / 1e6:.0f} M", one.rate, one.memory, one.save
            )
    if "context" in parts:
        for context in (128, 256, 512, 1024):
            knobs = {"size": "tiny", "context": context, "batch": TOKENS // context, "steps": 6}
            one = trained(workspace, knobs)
            yield Line("context", f"tiny, {context}", one.rate, one.memory, None)
    if "ranks" in parts:
        yield from by_ranks(workspace, given.rounds, given.steps, given.precision)
    if "beyond" in parts:
        yield from beyond()


def by_ranks(workspace: Workspace, rounds: int, steps: int, precision: str) -> Iterator[Line]:
    """One process with two threads beside two with one each, by turns; medians."""
    knobs = {"size": "mini", "batch": 8, "steps": steps, "precision": precision}
    found: dict[int, list[Trained]] = {1: [], 2: []}
    for _ in range(rounds):
        for ranks, runs in found.items():
            runs.append(trained(workspace, knobs, ranks=ranks))
    for ranks, runs in found.items():
        rate = statistics.median(one.rate for one in runs)
        threads = f"{ranks} x {2 // ranks} threads"
        yield Line("ranks", f"mini, {threads}", rate, runs[0].memory, None)


def beyond() -> Iterator[Line]:
    """Larger models on H100s, by `estimate-cost`: nothing of it was run."""
    for size, gpus in (("small", 1), ("xl", 8), ("6.7b", 64), ("13b", 64), ("175b", 1024)):
        shape = named_shape(size, vocab_size=50_257)
        flags = [f"--params={shape.parameters}", f"--context={shape.context}", f"--gpus={gpus}"]
        found = answered("estimate-cost", *flags, f"--zero={3 if gpus > 1 else 0}").answer
        tokens = found["flops"]["mid"] / 6 / shape.parameters
        rate = tokens / (86_400 * found["days"]["mid"])
        memory = found["memory_per_gpu_gb"]["mid"]
        save = 12 * shape.parameters / DISK / max(1, gpus // 8)
        yield Line("beyond", f"{size}, {exactly(gpus, 'GPUs')}", rate, memory, save)


class Trained(NamedTuple):
    """What a run in a process of its own took."""

    parameters: int
    rate: float
    memory: float
    save: float | None


def trained(workspace: Workspace, knobs: dict[str, Any], *, ranks: int = 1) -> Trained:
    """Run `pretrain` on this machine's two cores."""
    knobs = {"from": f"text-{VOCABULARY}", "eval_tokens": 2000, "compile": "off"} | knobs
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in knobs.items()]
    if ranks > 1:
        flags += ["--device=cpu", f"--processes={ranks}"]
    place = [f"--workspace={workspace.root}", "--force", "--name=growth"]
    found, memory = answered("pretrain", *flags, *place, threads=2 // ranks)
    facts = found["facts"]
    save = price_of_a_save(workspace, facts) if "save_every" in knobs else None
    return Trained(facts["parameters"], facts["tokens_per_second"], memory, save)


class Answer(NamedTuple):
    """What a command says, and the memory of the largest of its processes in gigabytes."""

    answer: dict[str, Any]
    memory: float


def answered(*command: str, threads: int = 1) -> Answer:
    """Run a command of llmctl's in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-m", "llmctl", *command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    assert child.stdout is not None
    said = child.stdout.read()
    # Only so the memory of this child, and of the ranks that it waited for, is known by itself.
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, said
    return Answer(json.loads(said), usage.ru_maxrss * 1024 / 1e9)


def price_of_a_save(workspace: Workspace, facts: dict[str, Any]) -> float:
    """Seconds: what the loop waited, and what the steps after it took beyond an ordinary step."""
    text = (workspace.path("model", "growth") / "metrics.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    clock = [0.0, *(row["seconds"] for row in rows if "seconds" in row)]
    took = [after - before for before, after in itertools.pairwise(clock)]
    # Step s stands at s - 1; the first two are cold.
    slowed = [took[step] for step in range(SAVE_EVERY, len(took)) if step % SAVE_EVERY < SLOWED]
    ordinary = [took[step] for step in range(2, len(took)) if step % SAVE_EVERY >= SLOWED]
    waited = facts["goodput"]["seconds"]["saving"] / (len(took) / SAVE_EVERY)
    return waited + SLOWED * (statistics.mean(slowed) - statistics.median(ordinary))


def told(line: Line) -> str:
    """A line of the table."""
    mark = "  estimated, not run" if line.part == "beyond" else ""
    save = "" if line.save is None else f"  {line.save:7.2f} s a checkpoint"
    return (
        f"{line.part:8} {line.name:18} {line.rate:12,.0f} tokens/s  {line.memory:6.2f} GB"
        f"{save}{mark}"
    )


def draw(lines: list[Line], path: Path) -> None:
    """A panel for each part: tokens a second as bars, with the memory of each."""
    parts = [part for part in PARTS if any(line.part == part for line in lines)]
    titles = {"model": "models", "context": "contexts", "ranks": "processes"}
    titles["beyond"] = "estimated, not run"
    figure = Figure(figsize=(4 * len(parts), 3.4), layout="constrained")
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        mine = [line for line in lines if line.part == part]
        bars = axes.bar([line.name for line in mine], [line.rate for line in mine])
        axes.bar_label(bars, [f"{line.memory:.1f} GB" for line in mine], fontsize=8, padding=2)
        axes.margins(y=0.12)
        axes.set_title(titles[part])
        axes.set_ylabel("tokens a second")
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.tick_params(axis="x", labelrotation=30, labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
