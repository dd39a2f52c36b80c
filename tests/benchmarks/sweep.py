"""One knob of `pretrain` at several values, at equal time or equal tokens: which is best?

    python tests/benchmarks/sweep.py --text BENCH/shakespeare/train.txt --out RUNS \
        --sweep learning_rate=0.01,0.02,0.04 --seconds 60 --seeds 3 --set layers=4 --set width=128

Any knob can be swept, and any set for all runs. The seeds go by turns, so that an hour in which
the machine is slower is slower for all values. The score is bits per byte of a piece of the
training text that is held out: what is chosen here has not seen the text of a benchmark.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from runs import read_knob, trained, workspace_of


def main() -> None:
    """Train all values with all seeds and print a line a value."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocabulary", default="byte", help="`byte` or a count of entries")
    parser.add_argument("--sweep", required=True, metavar="KNOB=VALUE,VALUE,…")
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE")
    parser.add_argument("--seeds", type=int, default=3)
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--seconds", type=float)
    budget.add_argument("--tokens")
    given = parser.parse_args()
    workspace = workspace_of(given.text, given.out, given.vocabulary)
    knob, _, values = given.sweep.partition("=")
    for_all = {"from": f"text-{given.vocabulary}", "eval_tokens": 10**9} | knobs_of(given.set)
    for_all |= {"tokens": given.tokens} if given.tokens else {"minutes": given.seconds / 60}
    budget_name = f"{given.tokens} tokens" if given.tokens else f"{given.seconds:g} s"
    found: dict[str, list[dict[str, Any]]] = {value: [] for value in values.split(",")}
    for seed in range(given.seeds):
        for value, facts in found.items():
            knobs = for_all | knobs_of([f"{knob}={value}"]) | {"seed": seed}
            facts.append(trained(workspace, name_of(knobs), knobs))
    print(f"{knob}, {budget_name} each, {given.seeds} seeds")
    best = min(found, key=lambda value: statistics.mean(bits(found[value])))
    for value, facts in found.items():
        print(told(value, facts, found[best]))


def knobs_of(pairs: list[str]) -> dict[str, Any]:
    """`key=value` as the flag of that knob would read it."""
    split = [pair.partition("=") for pair in pairs]
    return {key.replace("-", "_"): read_knob(key, text) for key, _, text in split}


def name_of(knobs: dict[str, Any]) -> str:
    """What a run is called: the same for the same knobs, so that it is not run again."""
    return "-".join(f"{key}-{value}" for key, value in sorted(knobs.items()) if key != "from")


def bits(facts: list[dict[str, Any]]) -> list[float]:
    """The scores of some runs."""
    return [one["val_bits_per_byte"] for one in facts]


def told(value: str, facts: list[dict[str, Any]], best: list[dict[str, Any]]) -> str:
    """A line of the table; what is lost to the best is compared seed by seed."""
    scores = bits(facts)
    spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
    lost = statistics.mean(a - b for a, b in zip(scores, bits(best), strict=True))
    tokens = statistics.mean(one["tokens"] for one in facts)
    seconds = statistics.mean(one["seconds"] for one in facts)
    return (
        f"{value:>12}  {statistics.mean(scores):.4f} bits per byte  sd {spread:.4f}"
        f"  [{min(scores):.4f}-{max(scores):.4f}]  {lost:+.4f} to the best"
        f"  {tokens:10,.0f} tokens  {seconds:5.1f} s"
    )


if __name__ == "__main__":
    main()
