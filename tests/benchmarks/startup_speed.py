"""Commands that answer at once -> their processor time beside `import typer, rich`.

    python tests/benchmarks/startup_speed.py

Each is a process of its own, in turns; the best of some rounds counts. Bytecode is compiled first,
as pip does. Typer and Rich are what no command line of ours can start faster than.
"""

import argparse
import compileall
import importlib.util
import resource
import subprocess
import sys

from llmctl.data.sources import SOURCES
from llmctl.stages import COMMANDS

PEER = "import typer, rich"
PAGES = ["", *(name for panel in COMMANDS.values() for name in panel)]
PAGES += [f"collect {source}" for source in SOURCES]
ANSWERS = [
    "estimate-cost --params 175e9",
    "estimate-cost --params 175e9 --json",
    "estimate-cost --story gpt3",
    "estimate-cost --budget 1e6",
    "decide --quiet",
]


def seconds(*words: str) -> float:
    """User and system time of Python with these words."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    home = importlib.util.find_spec("llmctl")
    for folder in (home and home.submodule_search_locations) or ():
        compileall.compile_dir(folder, quiet=1)
    best: dict[str, float] = {}
    lines = [*(f"{page} --help".strip() for page in PAGES), *ANSWERS]
    for _ in range(rounds):
        took = {PEER: seconds("-c", PEER)}
        took |= {f"llmctl {line}": seconds("-m", "llmctl", *line.split()) for line in lines}
        best = {name: min(one, best.get(name, one)) for name, one in took.items()}
    for name, one in best.items():
        print(f"{name:45}{one * 1000:5.0f} ms  {one / best[PEER]:.2f}x")


if __name__ == "__main__":
    main()
