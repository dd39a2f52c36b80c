"""Rows of runs, as tables of published ones have them -> a prediction each, or why there is none.

Blank cells and generic names are allowed: each widens the interval, and `why` says so.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from llmctl.config import parse_count
from llmctl.costs import network as networks
from llmctl.costs.accelerators import PRECISIONS, Precision, accelerator
from llmctl.costs.estimate import BENCHMARK, Plan, estimate
from llmctl.costs.flops import Stage
from llmctl.costs.tables import Row
from llmctl.errors import ConfigError

FIGURES: tuple[str, ...] = (
    "gpu_hours_low", "gpu_hours_mid", "gpu_hours_high", "memory_gb", "energy_kwh", "cost_usd",
)  # fmt: skip
COLUMNS: tuple[str, ...] = ("name", *FIGURES, "why")
NEEDED = frozenset(("params_total", "tokens", "gpu"))
# How much wider the interval is for what a cell does not say, or for what 6ND does not describe.
UNKNOWN_COUNT, UNKNOWN, ODD = 1.1, 1.03, 1.6
SPELLINGS = {"half": "fp16", "float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}


class Prediction(NamedTuple):
    """A row of the answer; figures are None where `why` says why."""

    name: str
    figures: Mapping[str, float | None]
    why: str

    def row(self) -> dict[str, Any]:
        """The cells of the row, numbers with six digits."""
        told = {key: "" if value is None else f"{value:.6g}" for key, value in self.figures.items()}
        return {"name": self.name, **told, "why": self.why}


def predict(rows: list[Row]) -> Iterator[Prediction]:
    """A prediction for each row; ConfigError where a column is missing that all of them need."""
    missing = NEEDED - rows[0].keys() if rows else set()
    if missing:
        raise ConfigError(
            f"the runs have no column {', '.join(sorted(missing))}",
            hint="name, stage, method, params_total, params_active, tokens, gpu, n_gpus,"
            " precision, year, context",
        )
    for index, row in enumerate(rows, start=1):
        name = row.get("name") or f"row {index}"
        try:
            plan, said = plan_of(row)
            figures = estimate(plan).figures
        except ConfigError as error:
            nothing: dict[str, float | None] = dict.fromkeys(FIGURES)
            yield Prediction(name, nothing, error.message)
            continue
        hours = figures["gpu_hours"]
        known = {
            "gpu_hours_low": hours.low,
            "gpu_hours_mid": hours.mid,
            "gpu_hours_high": hours.high,
            "memory_gb": figures["memory_per_gpu_gb"].mid,
            "energy_kwh": figures["energy_kwh"].mid,
            "cost_usd": figures["cost_usd"].mid,
        }
        yield Prediction(name, known, "; ".join(said))


def plan_of(row: Row) -> tuple[Plan, list[str]]:
    """The plan that a row describes, and what was assumed; ConfigError where it says too little.

    >>> plan_of({"params_total": "7e9", "tokens": "1e12", "gpu": "A100"})[0].stage
    'pretrain'
    """
    said: list[str] = []
    total = _number(row, "params_total") or _number(row, "params_active")
    tokens = _number(row, "tokens")
    if total is None or tokens is None:
        what = "tokens" if total else "parameters"
        raise ConfigError(f"{what} are not given: nothing follows from the rest")
    active = _number(row, "params_active") or total
    if active > total:
        said.append("more parameters are active than there are: all are taken")
    if not row["gpu"]:
        raise ConfigError("gpu is not given: hours are those of a chip")
    chip = accelerator(row["gpu"])
    doubt = 1.0
    if chip.is_generic:
        said.append(f"`{row['gpu']}` taken as {chip.name}")
    gpus = _number(row, "n_gpus")
    if gpus is None:
        said.append("number of GPUs not given: a usual one is taken")
        doubt *= UNKNOWN_COUNT
    year = _number(row, "year")
    context = _number(row, "context")
    kind = f"{row.get('stage', '')} {row.get('method', '')}".casefold()
    stage, rank = _stage(kind)
    is_benchmark = "mlperf" in f"{row.get('name', '')} {kind}".casefold()
    precision = _precision(row.get("precision", ""), stage, is_benchmark=is_benchmark)
    usual = {
        "precision": chip.precision(precision),
        "year": "today",
        "context": f"{networks.DEFAULT_CONTEXT:,}",
    }
    for column, taken in usual.items():
        if not row.get(column):
            said.append(f"{column} not given: {taken} is taken")
            doubt *= UNKNOWN
    network = networks.from_counts(
        total, active=min(active, total), context=int(context) if context else None
    )
    odd = re.search(r"distill|enc-dec|ssm|prune", kind)
    if odd:
        said.append(f"`{odd[0]}` is not what 6 x parameters x tokens describes: a wide guess")
        doubt *= ODD
    if is_benchmark:
        said.append("a benchmark submission: as MLPerf runs of its kind")
    plan = Plan(
        network=network,
        tokens=tokens,
        chip=chip,
        stage=stage,
        gpus=int(gpus) if gpus else None,
        precision=precision,
        profile=BENCHMARK if is_benchmark else None,
        year=int(year) if year else None,
        rank=rank,
        doubt=doubt,
    )
    return plan, said


def _stage(kind: str) -> tuple[Stage, int]:
    found = re.search(r"r(?:ank)?[-_ =]?(\d+)", kind)
    rank = int(found[1]) if found else 16
    if "qlora" in kind:
        return "qlora", rank
    if "lora" in kind:
        return "lora", rank
    if re.search(r"\b(dpo|kto|rlhf|ppo|prefer)\b", kind):
        return "prefer", rank
    is_tuning = kind.startswith(("fine", "full", "sft"))
    return ("full" if is_tuning else "pretrain"), rank


def _precision(cell: str, stage: Stage, *, is_benchmark: bool) -> Precision:
    # The published timings of LoRA, nearly all of MLPerf, ran in the lowest that the chip had.
    if not cell and (is_benchmark or stage == "lora"):
        return "fp8"
    plain = cell.casefold().strip()
    plain = SPELLINGS.get(plain, plain)
    for one in PRECISIONS:
        if one in plain:
            return one
    return "bf16"


def _number(row: Row, column: str) -> float | None:
    cell = row.get(column, "").replace(",", "").replace("_", "")
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = float(parse_count(cell))  # 7B, 1.4T
    if not 0 < value < math.inf:
        raise ConfigError(f"`{column}` cannot be {cell}")
    return value
