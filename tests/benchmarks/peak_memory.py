"""Peak memory and time of `collect files` and `tokenize` over a gigabyte of novels.

    python tests/benchmarks/peak_memory.py --bench BENCH [--gigabytes 1] [--split lines]

Writes the training novels of BENCH as often as it takes, into one folder of files, and runs both
commands on it. The peak is of the process and its workers together, looked at ten times a second;
pages of mapped files count, though the system may take those back at any time.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

LOOK_SECONDS = 0.1


def main() -> None:
    """Print a line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--split", default="file", help="as `collect files --split`")
    given = parser.parse_args()
    novels = sorted((given.bench / "novels" / "train").iterdir())
    with tempfile.TemporaryDirectory(dir=given.bench) as name:
        text, workspace = Path(name) / "text", Path(name) / "workspace"
        size = repeated(novels, text, given.gigabytes * 1e9)
        place = [f"--workspace={workspace}", "--json"]
        for command in (["collect", "files", str(text), f"--split={given.split}"], ["tokenize"]):
            seconds, peak = watched([sys.executable, "-m", "llmctl", *command, *place])
            print(f"{command[0]:8} {size / 1e9:.2f} GB  {seconds:6.1f} s  peak {peak / 1e9:.2f} GB")


def repeated(files: list[Path], folder: Path, least_bytes: float) -> int:
    """Copies of the files, round after round, until there are so many bytes; how many there are."""
    folder.mkdir(parents=True)
    size = number = 0
    while size < least_bytes:
        content = files[number % len(files)].read_bytes()
        (folder / f"{number:06d}.txt").write_bytes(content)
        size, number = size + len(content), number + 1
    return size


def watched(command: list[str]) -> tuple[float, int]:
    """Seconds and the most bytes that a command and its children held at once."""
    began, peak = time.perf_counter(), 0
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, held(process))
        time.sleep(LOOK_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - began, peak


def held(process: psutil.Process) -> int:
    """Resident bytes of a process and its children; zero of those that are just ending."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


if __name__ == "__main__":
    main()
