"""How right `llmctl estimate-cost` is: scores against published runs, each family held out.

    python tests/benchmarks/cost_score.py --data ../shared/data

A family (all Pythias, all of a vendor's series) is left out, the two knobs of the prior are fitted
on the rest, and the family is predicted. Beside it stand 6ND at 30, 40 and 50 % of the dense peak
and, with `--llm-analysis PYTHON`, the calculator of that name (see `cost_peer.py`).
Intervals are bootstraps over families. Prints the tables of the README, and the misses.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llmctl.costs import profiles
from llmctl.costs.accelerators import accelerator
from llmctl.costs.batch import plan_of
from llmctl.costs.energy import wall_power
from llmctl.costs.estimate import Plan, estimate
from llmctl.costs.flops import adapter_parameters
from llmctl.costs.memory import Layout, Memory, Optimizer, fits, memory
from llmctl.costs.network import from_counts, published
from llmctl.costs.tables import Row, read
from llmctl.costs.throughput import BILLION, Knobs, lost_by_spreading

# Runs of one team and stack say the same thing several times.
FAMILIES = {
    "Pythia": "Pythia", "LLaMA-1": "LLaMA", "Llama 3": "Llama 3", "Falcon": "Falcon",
    "MPT": "MPT", "Phi": "Phi", "OpenELM": "OpenELM", "Llemma": "Llemma", "llm.c": "GPT-2 again",
    "nanoGPT": "GPT-2 again", "modded": "GPT-2 again", "nanochat": "GPT-2 again",
    "GLM": "GLM", "xTrimo": "GLM", "PaLM": "PaLM", "GLaM": "PaLM",
}  # fmt: skip
# A quarter of a prior's strength: a knob that few families speak for stays near zero.
RIDGE = 0.3
HUBER = 0.15
BOOTSTRAPS = 2000
RULES = (0.3, 0.4, 0.5)


class Case(NamedTuple):
    """A run with its truth."""

    name: str
    family: str
    plan: Plan
    hours: float


def pretraining_cases(data: Path) -> list[Case]:
    """The pre-training runs whose GPU-hours are scored: tiers A and B."""
    cases: list[Case] = []
    for row in read(data / "published_runs.csv"):
        if row["stage"] == "pretrain" and row["note"][:3] in ("[A]", "[B]"):
            family = next((one for head, one in FAMILIES.items() if row["name"].startswith(head)),
                          row["name"])  # fmt: skip
            cases.append(Case(row["name"], family, plan_of(row)[0], float(row["gpu_hours"])))
    return cases


def predicted(case: Case, knobs: Knobs) -> tuple[float, float, float]:
    """GPU-hours: low, mid, high."""
    hours = estimate(case.plan._replace(knobs=knobs)).figures["gpu_hours"]
    return hours.low, hours.mid, hours.high


def by_rule(case: Case, mfu: float) -> float:
    """GPU-hours by 6ND at so much of the dense 16-bit peak."""
    plan = case.plan
    return 6 * plan.network.active * plan.tokens / (plan.chip.half_peak * mfu * 3600)


# The chips that llm-analysis ships, by our names.
PEER_CHIPS = {
    "A100-SXM-40GB": "a100-sxm-40gb", "A100-SXM-80GB": "a100-sxm-80gb",
    "H100-SXM-80GB": "h100-sxm-80gb", "V100-SXM2-32GB": "v100-sxm-32gb",
}  # fmt: skip


def by_peer(cases: Sequence[Case], python: Path, efficiency: float) -> dict[str, float]:
    """GPU-hours by llm-analysis at a share of the peak, where it knows the chip."""
    runs: list[str] = []
    for one in cases:
        network, chip = one.plan.network, one.plan.chip.name
        if chip in PEER_CHIPS and not network.is_mixture:
            shape = {
                name: getattr(network, name)
                for name in ("layers", "heads", "width", "vocabulary", "context", "mlp_width")
            }
            rest = {"gpu": PEER_CHIPS[chip], "gpus": estimate(one.plan).gpus,
                    "tokens": one.plan.tokens, "efficiency": efficiency}  # fmt: skip
            runs.append(json.dumps({"name": one.name, **shape, **rest}))
    told = subprocess.run(
        [python, Path(__file__).parent / "cost_peer.py"], input="\n".join(runs),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [json.loads(line) for line in told.stdout.splitlines()]
    return {one["name"]: one["hours"] for one in found if one["hours"]}


def report_peer(data: Path, python: Path) -> None:
    """The runs that llm-analysis can say something of, by both."""
    cases = pretraining_cases(data)
    guesses = held_out(cases)
    print("\n## Beside llm-analysis, on the runs whose chip it knows\n")
    print("| | runs | median error | 90th percentile | median factor | within 1.5x |")
    print("|---|---|---|---|---|---|")
    told = {f"llm-analysis at {share:.0%}": by_peer(cases, python, share) for share in RULES}
    known = [one for one in cases if all(one.name in hours for hours in told.values())]
    told["llmctl, family held out"] = {one.name: guesses[one.name][1] for one in known}
    told["6ND at 40%"] = {one.name: by_rule(one, 0.4) for one in known}
    for name, hours in told.items():
        got = score([(hours[one.name], one.hours) for one in known])
        print(f"| {name} | {len(known)} | {got.median:.0%} | {got.p90:.0%} | {got.factor:.2f} |"
              f" {got.within:.0%} |")  # fmt: skip
    ours = [abs(math.log(guesses[one.name][1] / one.hours)) for one in known]
    best = told["llm-analysis at 40%"]
    theirs = [abs(math.log(best[one.name] / one.hours)) for one in known]
    print(f"\npaired against llm-analysis at 40 %: p = {sign_flip(ours, theirs):.4f}")


def fit(cases: Sequence[Case]) -> Knobs:
    """The two knobs that explain these runs best, families weighted by the root of their size.

    Robust (Huber) and drawn to zero; the spread is the 80 % quantile of what is left over.
    """
    count = {one.family: sum(other.family == one.family for other in cases) for one in cases}
    weight = np.array([count[one.family] ** -0.5 for one in cases])
    features = np.array([features_of(one) for one in cases])
    flat = Knobs(0.0, 0.0, 1.0)
    left = np.array([math.log(one.hours / predicted(one, flat)[1]) for one in cases])
    scale, knobs = weight, np.zeros(2)
    for _ in range(50):
        weighted = features.T * scale
        knobs = np.linalg.solve(weighted @ features + RIDGE * np.eye(2), weighted @ left)
        off = np.abs(left - features @ knobs)
        scale = weight * np.minimum(1, HUBER / np.maximum(off, 1e-9))
    return Knobs(float(knobs[0]), float(knobs[1]), 1.0)


def features_of(case: Case) -> tuple[float, float]:
    """What the knobs are multiplied with: how small the model is, how spread out the run."""
    gpus = estimate(case.plan).gpus
    active = case.plan.network.active
    return max(0.0, math.log10(BILLION / active)), lost_by_spreading(active, gpus)


def held_out(cases: Sequence[Case]) -> dict[str, tuple[float, float, float]]:
    """Each run as predicted by knobs, and with an interval, that its family had no part in."""
    answer: dict[str, tuple[float, float, float]] = {}
    for family in dict.fromkeys(one.family for one in cases):
        rest = [one for one in cases if one.family != family]
        knobs = fit(rest)
        knobs = knobs._replace(spread=spread_of(rest, knobs))
        answer |= {one.name: predicted(one, knobs) for one in cases if one.family == family}
    return answer


def spread_of(cases: Sequence[Case], knobs: Knobs) -> float:
    """The half-width that holds 80 % of these runs, in units of each run's doubt."""
    off: list[float] = []
    for one in cases:
        _, mid, high = predicted(one, knobs)
        off.append(abs(math.log(one.hours / mid)) / math.log(high / mid))
    # Residuals of the runs that were fitted are smaller than those of new ones.
    return float(np.quantile(off, 0.8)) * (len(cases) + 3) / len(cases)


class Score(NamedTuple):
    """Absolute errors and factors of predictions against truths."""

    median: float
    p90: float
    factor: float
    within: float


def score(pairs: Iterable[tuple[float, float]]) -> Score:
    """The score of (prediction, truth) pairs."""
    ratios = np.array([guess / truth for guess, truth in pairs])
    error, factor = np.abs(ratios - 1), np.exp(np.abs(np.log(ratios)))
    return Score(
        float(np.median(error)),
        float(np.quantile(error, 0.9)),
        float(np.median(factor)),
        float(np.mean(factor <= 1.5)),
    )


def bootstrap(
    groups: Sequence[Sequence[tuple[float, float]]], statistic: Callable[[Score], float]
) -> tuple[float, float]:
    """The 90 % interval of a statistic where families are drawn anew."""
    generator = np.random.default_rng(0)
    drawn: list[float] = []
    for _ in range(BOOTSTRAPS):
        chosen = generator.integers(len(groups), size=len(groups))
        drawn.append(statistic(score([pair for index in chosen for pair in groups[index]])))
    return float(np.quantile(drawn, 0.05)), float(np.quantile(drawn, 0.95))


def sign_flip(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """p of the paired test that our errors (logarithms of factors) are not smaller."""
    difference = np.array(theirs) - np.array(ours)
    signs = np.random.default_rng(0).choice((-1, 1), size=(20_000, len(difference)))
    return float(np.mean((signs * difference).mean(axis=1) >= difference.mean()))


def report_pretraining(data: Path) -> None:
    """GPU-hours of published pre-training runs."""
    cases = pretraining_cases(data)
    guesses = held_out(cases)
    families = list(dict.fromkeys(one.family for one in cases))
    print(f"\n## GPU-hours, {len(cases)} pre-training runs of {len(families)} families\n")
    print("| | median error | 90th percentile | median factor | within 1.5x |")
    print("|---|---|---|---|---|")
    methods: dict[str, Callable[[Case], float]] = {
        "llmctl, family held out": lambda one: guesses[one.name][1],
        "llmctl as shipped": lambda one: predicted(one, Knobs())[1],
    }
    for mfu in RULES:
        methods[f"6ND at {mfu:.0%}"] = lambda one, mfu=mfu: by_rule(one, mfu)
    for name, method in methods.items():
        groups = [[(method(one), one.hours) for one in cases if one.family == family]
                  for family in families]  # fmt: skip
        told = score([pair for group in groups for pair in group])
        spans = [bootstrap(groups, lambda s, index=index: s[index]) for index in range(4)]
        cells = [
            f"{value:{form}} ({low:{form}}-{high:{form}})"
            for value, (low, high), form in zip(
                told, spans, (".0%", ".0%", ".2f", ".0%"), strict=True
            )
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    inside = [guesses[one.name][0] <= one.hours <= guesses[one.name][2] for one in cases]
    width = [guesses[one.name][2] / guesses[one.name][0] for one in cases]
    print(f"\n80 % intervals cover {np.mean(inside):.0%}, median width {np.median(width):.2f}x")
    ours = [abs(math.log(guesses[one.name][1] / one.hours)) for one in cases]
    rule = [abs(math.log(by_rule(one, 0.4) / one.hours)) for one in cases]
    print(f"paired against 6ND at 40 %: p = {sign_flip(ours, rule):.4f} (sign flips by run)")
    per_family = [(statistics.mean(o for o, c in zip(ours, cases, strict=True) if c.family == f),
                   statistics.mean(r for r, c in zip(rule, cases, strict=True) if c.family == f))
                  for f in families]  # fmt: skip
    print(f"the same by family: p = {sign_flip(*zip(*per_family, strict=True)):.4f}")
    best = fit(cases)
    print(f"knobs on all runs: small {best.small:.3f}, cluster {best.cluster:.3f},"
          f" spread {spread_of(cases, best):.3f}; shipped: {Knobs()}")  # fmt: skip
    print("\nmisses beyond 1.5x: " + ", ".join(
        f"{one.name} {guesses[one.name][1] / one.hours:.2f}x" for one in
        sorted(cases, key=lambda c: guesses[c.name][1] / c.hours)
        if abs(math.log(guesses[one.name][1] / one.hours)) > math.log(1.5)))  # fmt: skip


def report_profiles() -> None:
    """Steady rates where the stack is known."""
    print("\n## Steady rate with a stack profile, a group held out\n")
    print("| stack | rows | held out together | median error | 90th percentile |")
    print("|---|---|---|---|---|")
    groups: list[tuple[str, str, str, Callable[[profiles.Sample], object]]] = [
        ("llm-foundry", "pretrain", "a size", lambda one: one.model),
        ("llm-foundry", "pretrain", "a chip", lambda one: one.setting.chip.name),
        ("torchtitan", "pretrain", "a size and length",
         lambda one: (one.model, one.setting.context)),
        ("mlperf", "pretrain", "a model, chip, count and year",
         lambda one: (one.model, one.setting.chip.name, one.setting.gpus, one.setting.year)),
        ("mlperf", "lora", "a chip, count and year",
         lambda one: (one.setting.chip.name, one.setting.gpus, one.setting.year)),
        ("mlperf", "lora", "a chip", lambda one: one.setting.chip.name),
    ]  # fmt: skip
    for stack, stage, what, key in groups:
        errors: list[float] = []
        every = profiles.samples(stack)
        for one in every:
            rest = [other for other in every if key(other) != key(one)]
            if one.setting.stage == stage and rest:
                guess = profiles.profile(stack, one.setting, known=rest).flops_per_second
                truth = one.setting.simple_rate.flops_per_second * math.exp(one.gain)
                errors.append(abs(truth / guess - 1))
        print(f"| {stack}, {stage} | {len(errors)} | {what} | {np.median(errors):.1%} |"
              f" {np.quantile(errors, 0.9):.0%} |")  # fmt: skip


def report_tuning(data: Path) -> None:
    """GPU-hours of published fine-tuning runs, by the prior."""
    print("\n## GPU-hours of fine-tuning runs (prior; few, of many stacks)\n")
    for row in read(data / "published_runs.csv"):
        if row["stage"] == "finetune" and row["note"][:3] in ("[A]", "[B]"):
            hours = estimate(plan_of(row)[0]).figures["gpu_hours"]
            truth = float(row["gpu_hours"])
            print(f"* {row['name']}: {hours.mid:,.3g} ({hours.low:,.3g}-{hours.high:,.3g}),"
                  f" was {truth:,.4g}: {hours.mid / truth:.2f}x")  # fmt: skip
    rows = [row for row in read(data / "mlperf_runs.csv") if row["stage"] == "finetune"]
    plain = [{**row, "name": ""} for row in rows]
    told = score([(estimate(plan_of(row)[0]).figures["gpu_hours"].mid, float(row["gpu_hours"]))
                  for row in plain])  # fmt: skip
    print(
        f"* {len(rows)} MLPerf LoRA runs by the prior alone, not called MLPerf: median"
        f" {told.median:.0%}, 90th percentile {told.p90:.0%}, {told.within:.0%} within 1.5x"
    )


def report_energy(data: Path) -> None:
    """Measured energy, given the hours."""
    print("\n## Energy where it was measured, hours given\n")
    rows = [*read(data / "published_runs.csv"), *read(data / "mlperf_runs.csv")]
    for row in rows:
        is_measured = re.search(
            r"measured.{0,30}(\bW\b|AC|system|MJ)|W measured", row["note"], re.I
        )
        if is_measured and row["energy_mwh"] and row["gpu_hours"]:
            pue = float((re.search(r"PUE (\d\.\d+)", row["note"]) or ["", "1"])[1])
            chip = accelerator(row["gpu"])
            guess = float(row["gpu_hours"]) * wall_power(chip).mid * pue / 1e6
            print(f"* {row['name']}: {guess / float(row['energy_mwh']):.2f}x (PUE {pue:g})")


# The models of the memory table; shapes of two that `tables/models.csv` has no row for.
SHAPES = {
    "phi-1.5 1.3B": "phi-1.5", "Llama 2 7B": "llama-2-7b", "Llama 2 13B": "llama-2-13b",
    "Llama 3.1 8B": "llama-3.1-8b", "Llama 3.1 70B": "llama-3.1-70b",
    "Llama 3.1 405B": "llama-3.1-405b", "Llama 3.2 3B": "llama-3.2-3b",
    "Llama-2 7B": "llama-2-7b", "Llama-2 70B": "llama-2-70b",
}  # fmt: skip


# torchtune's savings, each on top of the ones before.
STEPS = (
    "baseline", "+packed", "+compile", "+chunked ce", "+activation checkpointing",
    "+optimizer in backward", "+activation offloading", "+8-bit adamw", "lora", "qlora",
)  # fmt: skip


def memory_of(row: Row) -> Memory | None:
    """What is predicted for a row that says enough; None for one that does not."""
    if not row["micro_batch"] or row["method"] == "adapter":
        return None
    note, source = row["note"].casefold(), row["source"]
    length, batch = int(row["max_seq"]), int(row["micro_batch"])
    if row["model"] in SHAPES:
        network = published(SHAPES[row["model"]]).with_context(length)
    else:
        known = from_counts(3.638e9, context=length, vocabulary=50_688)
        network = known._replace(layers=16, width=4096, heads=32, kv_heads=32, head_width=128,
                                 mlp_width=16_384)  # fmt: skip
    stage = (
        "qlora"
        if "qlora" in row["method"] or row["quant"].startswith("bnb")
        else ("lora" if "lora" in row["method"] else "full")
    )
    gpus = int(row["n_gpus"])
    step = None
    if note.startswith("cumulative"):
        step = next(index for index, one in enumerate(STEPS) if note.endswith(f": {one}"))
    if step == 0:
        return None  # not packed: how long the sequences were is not said
    is_litgpt, is_sharded = "litgpt" in source, gpus > 1
    layout = Layout(
        gpus=gpus,
        zero=3 if is_sharded else 0,
        micro_batch=batch,
        recompute="none"
        if (step is not None and step < 4) or (is_litgpt and not is_sharded)
        else "full",
        optimizer=_optimizer(source, step),
        in_backward=step is not None and 5 <= step < 8,
        loads_whole=is_litgpt and is_sharded,
        chunked_loss="torchtune" in source and (step is None or step >= 3),
    )
    if "offload" in f"{row['method']} {note}":
        return None  # what stays on the card is not said
    if stage == "full" and step is None:
        return None  # "memory-saving optimizer settings", not said which
    adapters = float(row["trainable_params"] or 0) or adapter_parameters(network, 8)
    adapters = adapters if stage != "full" else 0.0
    return memory(network, stage=stage, layout=layout, adapter_parameters=adapters)


def _optimizer(source: str, step: int | None) -> Optimizer:
    if "torchtune" not in source:
        return "adamw"
    return "adamw-bf16-8bit" if step == 7 else "adamw-bf16"


def report_memory(data: Path) -> None:
    """Peak memory of fine-tuning runs that say how they were laid out."""
    print("\n## Peak memory of fine-tuning\n")
    errors: dict[str, list[tuple[float, float]]] = {}
    misses: list[str] = []
    alarms: list[str] = []
    for row in read(data / "finetune_memory_benchmarks.csv"):
        need = memory_of(row)
        if need is None:
            continue
        guess = need.total * 1e9 / (1e9 if "litgpt" in row["source"] else 2**30)
        if row["gpu"] and not fits(need, accelerator(row["gpu"])):
            alarms.append(f"{row['model']} {row['method']} {row['gpu']} b{row['micro_batch']}")
        truth = float(row["peak_mem_gib"])
        kind = f"{row['source'].split(':')[0]}, {'one GPU' if row['n_gpus'] == '1' else 'several'}"
        errors.setdefault(kind, []).append((guess, truth))
        if abs(guess / truth - 1) > 0.15:
            misses.append(f"{row['model']} {row['method']} {row['quant']} x{row['n_gpus']}"
                          f" b{row['micro_batch']} {row['note'][-25:]}: {guess:.1f}"
                          f" for {truth:.1f}")  # fmt: skip
    every = [pair for pairs in errors.values() for pair in pairs]
    for kind, pairs in [("all", every), *errors.items()]:
        told = score(pairs)
        print(f"* {kind}: {len(pairs)} rows, median {told.median:.1%}, 90th percentile"
              f" {told.p90:.0%}")  # fmt: skip
    print("\nmisses beyond 15 %: " + "; ".join(misses))
    print(f"of the {len(every)} that ran {len(alarms)} are said not to fit: {'; '.join(alarms)}")


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--llm-analysis", type=Path, help="a Python that has it")
    given = parser.parse_args()
    data = given.data
    report_pretraining(data)
    if given.llm_analysis:
        report_peer(data, given.llm_analysis)
    report_profiles()
    report_tuning(data)
    report_energy(data)
    report_memory(data)


if __name__ == "__main__":
    main()
