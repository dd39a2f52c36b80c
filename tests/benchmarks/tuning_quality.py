"""`llmctl finetune classify` on real data beside TF-IDF with a logistic regression: a table.

    python tests/benchmarks/tuning_quality.py --data ../shared/data --out BENCH [--minutes 4.8] \
        [--sets sms-csv,sms-tsv,sst2] [--seeds 0,1,2] [--texts 2000] [--flags=--adapt=0]

The base is pretrained here on the books beside the project for `--minutes`, once, then tuned on
each set; the baseline of each row is trained on the very same split. With `--texts`, so many rows
of a set, drawn once, stand for all of it, its own test aside. A run that was cut goes on, and one
that is made is told again.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from llmctl.data.labeled.table import read_table

SETS = {
    "sms-csv": ("spam/spam.csv", ()),
    "sms-tsv": ("spam/sms_spam.tsv", ()),
    "banking77": ("classify/banking77/train.csv", ("--test", "classify/banking77/test.csv")),
    "ag_news": ("classify/ag_news/test.csv", ()),
    "sst2": ("classify/sst2/train.tsv", ("--test", "classify/sst2/test.tsv")),
    "airline": (
        "classify/airline_tweets.csv",
        ("--text-column=text", "--label-column=airline_sentiment"),
    ),
    "korean": ("classify/korean_chatbot.csv", ("--text-column=Q", "--label-column=label")),
}


def main() -> None:
    """Make the base, tune it on every set with every seed, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4.8)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--texts", type=int, help="so many of each set; all by default")
    parser.add_argument("--flags", default="", help="of every run, beside the defaults")
    given = parser.parse_args()
    workspace = given.out / "tuning"
    make_base(workspace, given)
    for name in given.sets.split(","):
        rows: list[dict[str, Any]] = []
        for seed in given.seeds.split(","):
            rows.append(tuned(workspace, given, name, seed))
            print(told(f"{name}-{seed}", rows[-1:]), flush=True)
        print(told(name, rows), flush=True)


def make_base(workspace: Path, given: argparse.Namespace) -> None:
    """A small model of books, unless it is there."""
    books = str(given.data / "books")
    llmctl(workspace, "collect", "files", books, "--name=books")
    llmctl(workspace, "tokenize", "--vocab-size=8192")
    if not (workspace / "models/base/manifest.json").exists():
        llmctl(workspace, "pretrain", "--size=nano", f"--minutes={given.minutes}")


def tuned(workspace: Path, given: argparse.Namespace, name: str, seed: str) -> dict[str, Any]:
    """The facts of one run."""
    file, flags = SETS[name]
    path = given.data / file
    if given.texts is not None:
        path = drawn(path, given.texts, given.out / f"{name}-{given.texts}.jsonl")
    words = [str(given.data / one) if "/" in one else one for one in flags]
    command = ["finetune", "classify", str(path), *words, "--base=base", *given.flags.split()]
    called = f"{name}-{given.texts or 'all'}{given.flags.replace(' ', '')}-{seed}"
    return llmctl(workspace, *command, f"--name={called.replace('=', '-')}", f"--seed={seed}")


def drawn(path: Path, texts: int, out: Path) -> Path:
    """Some of the rows of a table, as a table."""
    records = read_table(path).records
    rows = random.Random(0).sample(records, min(texts, len(records)))
    lines = [json.dumps(dict(row.values), ensure_ascii=False) for row in rows]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def llmctl(workspace: Path, *words: str) -> dict[str, Any]:
    """A command's facts."""
    command = [sys.executable, "-m", "llmctl", *words, f"--workspace={workspace}", "--json", "-q"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["facts"]


def told(name: str, rows: list[dict[str, Any]]) -> str:
    """A line of the table: means, the baseline's, the mean standard error, seconds."""

    def mean(key: str) -> float:
        return statistics.mean(row[key] for row in rows)

    low, high = (
        statistics.mean(row["intervals"]["macro_f1"][end] for row in rows) for end in (0, 1)
    )
    error = (high - low) / 3.92
    return (
        f"{name:10} accuracy {mean('accuracy'):.4f} (baseline {mean('baseline_accuracy'):.4f})"
        f"  macro-F1 {mean('macro_f1'):.4f} (baseline {mean('baseline_macro_f1'):.4f},"
        f" standard error {error:.4f})  training {mean('train_seconds'):.0f} s,"
        f" all {mean('seconds'):.0f} s"
    )


if __name__ == "__main__":
    main()
