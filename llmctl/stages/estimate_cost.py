"""A plan of training -> FLOPs, GPU-hours, days, gigabytes, kilowatt-hours, tonnes and dollars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmctl.config import knob, parse_count, to_dict
from llmctl.console import console
from llmctl.errors import ConfigError

if TYPE_CHECKING:
    from llmctl.costs.accelerators import Accelerator
    from llmctl.costs.estimate import Estimate, Plan
    from llmctl.costs.network import Network
    from llmctl.costs.prices import Prices
    from llmctl.costs.sections import Section
    from llmctl.workspace import Workspace

TOKENS_PER_WORD = 4 / 3
DEFAULT_GPU = "H100-SXM-80GB"

Stage = Literal["pretrain", "full", "lora", "qlora", "prefer", "api"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateCost:
    """Say what a training run takes: time, memory, energy and money, each with its interval.

    llmctl estimate-cost --params 175e9 --tokens 300e9 --gpu V100 --gpus 10000
    llmctl estimate-cost --model llama-3-8b --stage lora --examples 10000
    """

    params: int | None = knob(
        None, help="Parameters in all: 175e9, 175B, 7b", panel="Model", parse=parse_count
    )
    active: int | None = knob(
        None, help="Parameters that a token uses, in a mixture of experts", panel="Model",
        parse=parse_count, rare=True,
    )  # fmt: skip
    model: str | None = knob(
        None, help="A published model such as llama-3-8b, or a folder or file of config.json",
        panel="Model", metavar="NAME|PATH", json_config=True,
    )  # fmt: skip
    context: int | None = knob(
        None, help="Tokens a sequence (default: the model's)", panel="Model", parse=parse_count,
        rare=True,
    )  # fmt: skip
    vocab: int | None = knob(
        None, help="Entries of the vocabulary, where the shape is not known", panel="Model",
        parse=parse_count, rare=True,
    )  # fmt: skip
    stage: Stage = knob("pretrain", help="What kind of training it is", panel="Training")
    tokens: int | None = knob(
        None, help="Tokens that are trained on (default: compute-optimal)", panel="Training",
        parse=parse_count,
    )  # fmt: skip
    words: int | None = knob(
        None, help="The same in words, converted to tokens", panel="Training", parse=parse_count,
        rare=True,
    )  # fmt: skip
    examples: int | None = knob(
        None, help="Examples to fine-tune on (default: 10000)", panel="Training",
        parse=parse_count,
    )  # fmt: skip
    tokens_per_example: int = knob(
        500, help="Tokens of an example, padding included", panel="Training", rare=True
    )
    epochs: float = knob(3, help="How often the examples are seen", panel="Training", rare=True)
    rank: int = knob(16, help="Rank of the adapters", panel="Training", rare=True)
    gpu: str | None = knob(
        None, help=f"The accelerator, such as H100, A100-40GB, TPUv4 (default: {DEFAULT_GPU})",
        panel="Machine",
    )  # fmt: skip
    gpus: int | None = knob(None, help="How many; the days follow", panel="Machine")
    days: float | None = knob(None, help="In how many days; the GPUs follow", panel="Machine")
    precision: Literal["bf16", "fp16", "fp8", "fp4", "tf32", "fp32"] = knob(
        "bf16", help="What matrices are multiplied in", panel="Machine", rare=True
    )
    year: int | None = knob(None, help="When: software and prices", panel="Machine", rare=True)
    mfu: float | None = knob(
        None, help="A measured MFU, 0 to 1, that replaces the prior", panel="Machine", rare=True
    )
    tokens_per_second: float | None = knob(
        None, help="A measured rate over all GPUs", panel="Machine", rare=True
    )
    recompute: Literal["none", "selective", "full"] = knob(
        "none", help="What is computed twice to save memory", panel="Machine", rare=True
    )
    zero: int = knob(0, help="ZeRO stage, 0 to 3 (FSDP is 3)", panel="Machine", rare=True)
    tp: int = knob(1, help="Tensor parallel over so many GPUs", panel="Machine", rare=True)
    pp: int = knob(1, help="Pipeline stages", panel="Machine", rare=True)
    micro_batch: int = knob(1, help="Sequences a GPU at a time", panel="Machine", rare=True)
    price: float | None = knob(None, help="USD a GPU-hour", panel="Money", rare=True)
    tier: Literal["low", "mid", "high"] | None = knob(
        None, help="Which of the listed prices counts", panel="Money", rare=True
    )
    prices: Path | None = knob(None, help="A price list of your own", panel="Money", rare=True)
    country: str = knob("United States", help="Whose grid", panel="Money", rare=True)
    pue: float = knob(1.1, help="Power of the hall over that of its machines", panel="Money",
                      rare=True)  # fmt: skip
    runs: Path | None = knob(
        None, help="Estimate every row of a CSV file of runs", panel="Report", metavar="FILE"
    )
    out: Path | None = knob(
        None, help="Where the predictions for `--runs` go", panel="Report", metavar="FILE"
    )
    kwh_price: float | None = knob(None, help="USD a kWh", panel="Money", rare=True)


def run(config: EstimateCost, workspace: Workspace) -> dict[str, Any]:  # noqa: ARG001
    """Print the estimate; the same as data.

    >>> run(EstimateCost(params=175 * 10**9, tokens=300 * 10**9), workspace)["flops"]["mid"]
    3.15e+23
    """
    if config.runs or config.out:
        return _batch(config)
    return _single(config)


def _single(config: EstimateCost) -> dict[str, Any]:
    from llmctl.costs import project, sections
    from llmctl.costs.estimate import estimate
    from llmctl.costs.prices import Prices

    prices = Prices(config.prices)
    notes: list[str] = []
    plan = _plan(config, notes)
    result = estimate(plan, prices)
    lines = list(project.bill(result, prices, project.Extras(kwh_price=config.kwh_price)))
    notes += result.notes
    if told := sections.stale(result):
        notes.append(told)
    _print(result, lines, prices, notes)
    return {
        **result.to_dict(),
        "notes": notes,
        "bill": [{"name": one.name, **one.cost.to_dict()} for one in lines],
        "project_usd": project.project(lines).to_dict(),
        "layout": str(result.layout) if result.layout else None,
        "inputs": _inputs(config, result),
    }


def _batch(config: EstimateCost) -> dict[str, Any]:
    import csv
    import io

    from llmctl.costs.batch import COLUMNS, predict
    from llmctl.costs.tables import read
    from llmctl.durable import write_durably

    if config.runs is None or config.out is None:
        raise ConfigError("`--runs` and `--out` go together", hint="--runs in.csv --out out.csv")
    try:
        rows = read(config.runs)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config.runs} cannot be read: {error}") from error
    predictions = list(predict(rows))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(one.row() for one in predictions)
    write_durably(config.out, text.getvalue().encode())
    unsaid = sum(one.figures["gpu_hours_mid"] is None for one in predictions)
    console.say(f"{len(predictions) - unsaid} runs estimated, {unsaid} cannot be: see `why`")
    console.say(f"made {config.out}")
    return {"runs": len(predictions), "without_prediction": unsaid, "out": str(config.out)}


def _print(result: Estimate, lines: list[Any], prices: Prices, notes: list[str]) -> None:
    from llmctl.costs import sections

    console.data(sections.headline(result.plan, result.gpus) + "\n")
    _table(sections.summary(result, lines))
    for note in notes:
        console.note(note)
    for section in (
        sections.compute(result),
        sections.time(result),
        sections.memories(result),
        sections.money(lines),
        sections.changes(result, prices),
        sections.provenance(result),
    ):
        console.data()
        _table(section)


def _table(section: Section) -> None:
    console.table(section.title, section.columns, section.rows, is_data=True)


def _inputs(config: EstimateCost, result: Estimate) -> dict[str, Any]:
    plan = result.plan
    resolved = {
        "parameters": plan.network.total,
        "active_parameters": plan.network.active,
        "tokens": plan.tokens,
        "gpu": plan.chip.name,
        "gpus": result.gpus,
        "context": plan.network.context,
        "layers": plan.network.layers,
        "width": plan.network.width,
    }
    return {**to_dict(config), **resolved}


def _plan(config: EstimateCost, notes: list[str]) -> Plan:
    from llmctl.costs.estimate import Plan
    from llmctl.costs.memory import Layout

    network = _network(config)
    chip = _chip(config, notes)
    layout = Layout(
        gpus=config.gpus or config.tp * config.pp,
        zero=config.zero,
        tp=config.tp,
        pp=config.pp,
        micro_batch=config.micro_batch,
        recompute=config.recompute,
    )
    return Plan(
        network=network,
        tokens=_tokens(config, network, notes),
        chip=chip,
        stage=config.stage,
        gpus=config.gpus,
        days=config.days,
        precision=config.precision,
        year=config.year,
        mfu=config.mfu,
        tokens_per_second=config.tokens_per_second,
        price=config.price,
        tier=config.tier,
        country=config.country,
        pue=config.pue,
        rank=config.rank,
        layout=layout,
    )


def _network(config: EstimateCost) -> Network:
    import json

    from llmctl.costs import network

    if (config.params is None) == (config.model is None):
        raise ConfigError(
            "say what is trained, once",
            hint="`--params 7b`, `--model llama-3-8b` or `--config path/to/config.json`",
        )
    if config.model is None:
        return network.from_counts(
            config.params or 0, active=config.active, context=config.context,
            vocabulary=config.vocab,
        )  # fmt: skip
    path = Path(config.model)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        return network.published(config.model).with_context(config.context)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{file} is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise ConfigError(f"{file} holds no config of a model")
    name = file.resolve().parent.name if file.name == "config.json" else file.stem
    return network.from_config(said, name=name).with_context(config.context)


def _chip(config: EstimateCost, notes: list[str]) -> Accelerator:
    from llmctl.costs.accelerators import accelerator

    if config.gpu is None:
        notes.append(f"no `--gpu` given: {DEFAULT_GPU} is taken")
    return accelerator(config.gpu or DEFAULT_GPU)


def _tokens(config: EstimateCost, network: Network, notes: list[str]) -> float:
    from llmctl.costs.scaling import TOKENS_PER_PARAMETER, compute_optimal_tokens

    if config.tokens is not None and config.words is not None:
        raise ConfigError("both tokens and words are given", hint="leave one of them out")
    if config.tokens is not None:
        return config.tokens
    if config.words is not None:
        tokens = config.words * TOKENS_PER_WORD
        notes.append(
            f"{config.words:,} words are about {tokens:,.0f} tokens, 4 for 3; the famous"
            ' "300 billion words" of GPT-3 are tokens'
        )
        return tokens
    if config.stage == "pretrain":
        tokens = compute_optimal_tokens(network.active)
        notes.append(
            f"no `--tokens` given: {tokens:,.0f} are compute-optimal,"
            f" {TOKENS_PER_PARAMETER} a parameter"
        )
        return tokens
    examples = 10_000 if config.examples is None else config.examples
    tokens = examples * config.tokens_per_example * config.epochs
    notes.append(
        f"{examples:,} examples x {config.tokens_per_example:,} tokens x {config.epochs:g} epochs"
        f" are {tokens:,.0f} tokens"
    )
    return tokens
