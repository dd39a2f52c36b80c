"""What happened at each step, as lines of JSON that terminals, plots and trackers read."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmctl.durable import write_durably


class Journal:
    """`metrics.jsonl`: one row a step or an evaluation, in order of steps."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut(self, step: int) -> float:
        """Forget what comes after a step, which a run that resumes there writes again.

        Returns the seconds that the steps took which are forgotten.
        """
        kept: list[dict[str, Any]] = []
        lost = 0.0
        before = 0.0
        for row in self.rows():
            took = row.get("seconds", before) - before
            if row["step"] < step or (row["step"] == step and "val_loss" not in row):
                kept.append(row)
            else:
                lost += took
            before += took
        write_durably(self.path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        return lost

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; numbers that JSON does not know become null."""
        plain = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All rows; a last line that a kill cut short is left out."""
        if not self.path.exists():
            return []
        whole = self.path.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in whole]
