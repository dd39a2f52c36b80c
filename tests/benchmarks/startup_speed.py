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

PEER = ("-c", "import typer, rich")
COMMANDS = {
    "import typer, rich": PEER,
    "llmctl --help": ("-m", "llmctl", "--help"),
    "llmctl pretrain --help": ("-m", "llmctl", "pretrain", "--help"),
    "llmctl estimate-cost --help": ("-m", "llmctl", "estimate-cost", "--help"),
    "llmctl estimate-cost --params 175e9": ("-m", "llmctl", "estimate-cost", "--params", "175e9"),
    "the same with --json": ("-m", "llmctl", "estimate-cost", "--params", "175e9", "--json"),
    "llmctl decide --json": ("-m", "llmctl", "decide", "--json", "--quiet"),
}


def seconds(words: tuple[str, ...]) -> float:
    """User and system time of a process."""
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
    told = [{name: seconds(words) for name, words in COMMANDS.items()} for _ in range(rounds)]
    best = {name: min(one[name] for one in told) for name in COMMANDS}
    for name, took in best.items():
        print(f"{name:40}{took * 1000:5.0f} ms  {took / best['import typer, rich']:.2f}x")


if __name__ == "__main__":
    main()
