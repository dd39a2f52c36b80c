"""A plan of training -> FLOPs, GPU-hours, days, gigabytes, kilowatt-hours, tonnes and dollars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmctl.config import knob, parse_count, to_dict
from llmctl.console import console
from llmctl.errors import ConfigError, WorkspaceError

if TYPE_CHECKING:
    from llmctl.costs.accelerators import Accelerator
    from llmctl.costs.estimate import Estimate, Plan
    from llmctl.costs.network import Network
    from llmctl.costs.prices import Prices
    from llmctl.costs.project import Extras, Line
    from llmctl.costs.sections import Section
    from llmctl.workspace import Workspace

DEFAULT_GPU = "H100-SXM-80GB"

Stage = Literal["pretrain", "full", "lora", "qlora", "prefer", "api"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateCost:
    """Say what a training run takes: time, memory, energy and money, each with its interval.

        llmctl estimate-cost --params 175e9 --tokens 300e9 --gpu V100 --gpus 10000
        llmctl estimate-cost --model llama-3-8b --stage lora --examples 10000
        llmctl estimate-cost --budget 10000

    What nobody says is assumed, and told.
    """

    params: int | None = knob(
        None, help="Parameters in all: 175e9, 175B, 7b", panel="Model", parse=parse_count
    )
    active: int | None = knob(
        None, help="Parameters that a token uses, in a mixture of experts", panel="Model",
        parse=parse_count, rare=True,
    )  # fmt: skip
    model: str | None = knob(
        None, help="A published model such as llama-3-8b, or where its config.json is",
        panel="Model", metavar="NAME|PATH", json_config=True,
    )  # fmt: skip
    from_: str | None = knob(
        None, help="A finished model of the workspace: how far off was the estimate?",
        panel="Model", metavar="NAME|DIR",
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
        None, help="Tokens to train on, all epochs (default: compute-optimal)", panel="Training",
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
        None, help=f"Such as H100, A100-40GB or TPUv4 (default: {DEFAULT_GPU})", panel="Machine"
    )
    gpus: int | None = knob(
        None, help="How many; the days follow", panel="Machine", parse=parse_count
    )
    days: float | None = knob(None, help="In how many days; the GPUs follow", panel="Machine")
    precision: Literal["bf16", "fp16", "fp8", "fp4", "tf32", "fp32"] = knob(
        "bf16", help="What matrices are multiplied in", panel="Machine", rare=True
    )
    year: int | None = knob(
        None, help="The year of it: its prices, how often its cluster fails", panel="Machine",
        rare=True,
    )  # fmt: skip
    mfu: float | None = knob(
        None, help="A measured MFU, 0 to 1, that replaces the prior", panel="Machine", rare=True
    )
    tokens_per_second: float | None = knob(
        None, help="A measured rate over all GPUs", panel="Machine", rare=True
    )
    step_time: float | None = knob(
        None, help="Measured seconds a step, with --batch-tokens", panel="Machine", rare=True
    )
    batch_tokens: int | None = knob(
        None,
        help="Tokens a step (default: usual for the size)",
        panel="Machine",
        parse=parse_count,
        rare=True,
    )
    profile: str | None = knob(
        None, help="A measured stack: llm-foundry, torchtitan, maxtext, megatron, mlperf",
        panel="Machine", metavar="STACK", rare=True,
    )  # fmt: skip
    goodput: float | None = knob(
        None, help="Share of the time that it trains, 0 to 1 (default: by GPUs and year)",
        panel="Machine", rare=True,
    )  # fmt: skip
    calibrate: bool = knob(
        False, help="Time a matrix product and a few steps, and estimate for this machine",
        panel="Machine", rare=True,
    )  # fmt: skip
    recompute: Literal["none", "selective", "full"] = knob(
        "none", help="What is computed twice to save memory", panel="Machine", rare=True
    )
    zero: int = knob(0, help="ZeRO stage, 0 to 3 (FSDP is 3)", panel="Machine", rare=True)
    tp: int = knob(1, help="Tensor parallel over so many GPUs", panel="Machine", rare=True)
    pp: int = knob(1, help="Pipeline stages", panel="Machine", rare=True)
    micro_batch: int = knob(1, help="Sequences a GPU at a time", panel="Machine", rare=True)
    optimizer: Literal[
        "adamw", "adamw-8bit", "adamw-bf16", "adamw-bf16-8bit", "adamw-paged", "muon"
    ] = knob("adamw", help="What the states in memory are of", panel="Machine", rare=True)
    budget: float | None = knob(
        None, help="USD: the largest sensible model for it, instead", panel="Money"
    )
    price: float | None = knob(None, help="USD a GPU-hour", panel="Money", rare=True)
    tier: Literal["low", "mid", "high"] | None = knob(
        None, help="Which of the listed prices counts", panel="Money", rare=True
    )
    prices: Path | None = knob(
        None, help="Your price list: kind,item,low,mid,high,unit,date,source", panel="Money",
        metavar="FILE", rare=True,
    )  # fmt: skip
    api: str | None = knob(
        None, help="Which API of the list, with --stage api", panel="Money", rare=True
    )
    label: str | None = knob(
        None, help="How examples are labelled: class, pairwise, written, synthetic ...",
        panel="Money", rare=True,
    )  # fmt: skip
    label_price: float | None = knob(None, help="USD a label", panel="Money", rare=True)
    people: float = knob(0, help="How many work on it", panel="Money", rare=True)
    country: str = knob("United States", help="Whose grid", panel="Money", rare=True)
    pue: float = knob(
        1.1, help="Power of the hall over that of its machines", panel="Money", rare=True
    )
    kwh_price: float | None = knob(None, help="USD a kWh", panel="Money", rare=True)
    compare: bool = knob(False, help="Set the nearest published runs beside it", panel="Report")
    story: Literal["gpt3"] | None = knob(
        None, help="The classic table of what GPT-3 cost, line by line", panel="Report"
    )
    plot: Path | None = knob(
        None, help="Draw cost over parameters and tokens as PNG", panel="Report", metavar="FILE"
    )
    runs: Path | None = knob(
        None, help="Estimate every row of a CSV file of runs", panel="Report", metavar="FILE"
    )
    out: Path | None = knob(
        None, help="Where the predictions for --runs go", panel="Report", metavar="FILE"
    )


def run(config: EstimateCost, workspace: Workspace) -> dict[str, Any]:
    """Print the estimate; the same as data.

    >>> run(EstimateCost(params=175 * 10**9, tokens=300 * 10**9), workspace)["flops"]["mid"]
    3.15e+23
    """
    from llmctl.costs.prices import Prices

    _check_subject(config)
    prices = Prices(config.prices)
    if config.runs and config.out:
        return _batch(config.runs, config.out)
    if config.story:
        return _story(prices)
    if config.from_:
        return _against(config.from_, workspace)
    if config.budget is not None:
        return _budget(config, prices)
    return _single(config, prices)


def _check_subject(config: EstimateCost) -> None:
    """One thing is estimated at a time, and what shows a plan goes with a plan."""
    if (config.runs is None) != (config.out is None):
        raise ConfigError("`--runs` and `--out` go together", hint="--runs in.csv --out out.csv")
    subjects = {
        "--params": config.params,
        "--model": config.model,
        "--from": config.from_,
        "--budget": config.budget,
        "--story": config.story,
        "--runs": config.runs,
    }
    given = [name for name, value in subjects.items() if value is not None]
    if not given:
        raise ConfigError(
            "say what is trained",
            hint="`--params 7b`, `--model llama-3-8b`, `--config path/to/config.json`",
        )
    if len(given) > 1:
        told = " and ".join(f"`{name}`" for name in given)
        raise ConfigError(f"{told} each say what is estimated", hint="take one of them")
    views = [f"`--{name}`" for name in ("compare", "plot") if getattr(config, name)]
    if views and given[0] in ("--from", "--story", "--runs"):
        raise ConfigError(
            f"{views[0]} does not go with `{given[0]}`", hint="it shows a plan of one run"
        )


def _single(config: EstimateCost, prices: Prices) -> dict[str, Any]:
    from llmctl.costs import project, sections
    from llmctl.costs.estimate import estimate

    notes: list[str] = []
    network = _network(config)
    result = estimate(_plan(config, network, _tokens(config, network, notes), notes), prices)
    lines = list(project.bill(result, prices, _extras(config, prices)))
    notes += _notes(result, prices)
    if not console.is_json:
        console.sentence(sections.headline(result.plan, result.gpus))
        console.data()
        _table(sections.summary(result, lines))
        console.points(notes)
        _tell(result, lines, prices)
    return {
        **result.to_dict(),
        **_views(config, result),
        "notes": notes,
        "bill": [{"name": one.name.strip(), **one.cost.to_dict()} for one in lines],
        "project_usd": project.project(lines).to_dict(),
        "layout": str(result.layout) if result.layout else None,
        "inputs": _inputs(config, result),
    }


def _notes(result: Estimate, prices: Prices) -> list[str]:
    from llmctl.costs.sections import stale

    told = stale(prices, result.plan.year)
    return [*result.notes, *([told] if told else [])]


def _views(config: EstimateCost, result: Estimate) -> dict[str, Any]:
    """Show the published runs and the picture where they are asked for; the runs as data."""
    from llmctl.costs import sections
    from llmctl.costs.published_runs import nearest

    if config.plot:
        _draw(config.plot, result)
    if not config.compare:
        return {}
    compared = nearest(result.plan)
    console.data()
    _table(sections.comparison(compared))
    return {"compared": [one._asdict() for one in compared]}


def _tell(result: Estimate, lines: list[Line], prices: Prices) -> None:
    """What stands behind the summary."""
    from llmctl.costs import sections

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


def _draw(path: Path, result: Estimate) -> None:
    from llmctl.costs.pictures import cost_plane
    from llmctl.costs.published_runs import scored

    _write(path, cost_plane(result, scored()))


def _write(path: Path, content: bytes) -> None:
    from llmctl.durable import write_durably

    try:
        write_durably(path, content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    console.say(f"made {path}")


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


def _tokens(config: EstimateCost, network: Network, notes: list[str]) -> float:
    from llmctl.costs.asking import Text, tokens_of

    if config.examples and config.stage == "pretrain":
        raise ConfigError(
            "`--examples` are of a fine-tuning", hint="say which: `--stage lora`, or `--tokens`"
        )
    text = Text(
        config.tokens, config.words, config.examples, config.tokens_per_example, config.epochs
    )
    tokens, told = tokens_of(text, network, config.stage)
    if told:
        notes.append(told)
    return tokens


def _plan(config: EstimateCost, network: Network, tokens: float, notes: list[str]) -> Plan:
    from llmctl.costs.estimate import Plan
    from llmctl.costs.memory import Layout

    layout = Layout(
        gpus=config.tp * config.pp if config.gpus is None else config.gpus,
        zero=config.zero,
        tp=config.tp,
        pp=config.pp,
        micro_batch=config.micro_batch,
        recompute=config.recompute,
        optimizer=config.optimizer,
    )
    plan = Plan(
        network=network,
        tokens=tokens,
        chip=_chip(config, notes),
        stage=config.stage,
        gpus=config.gpus,
        days=config.days,
        precision=config.precision,
        year=config.year,
        mfu=config.mfu,
        tokens_per_second=_measured_rate(config),
        profile=config.profile,
        batch_tokens=config.batch_tokens,
        goodput=config.goodput,
        api=config.api,
        price=config.price,
        tier=config.tier,
        country=config.country,
        pue=config.pue,
        rank=config.rank,
        layout=layout,
    )
    return _calibrated(plan, notes) if config.calibrate else plan


def _network(config: EstimateCost) -> Network:
    from llmctl.costs import network
    from llmctl.costs.asking import named_network

    context = config.context
    if context is None and config.stage != "pretrain" and config.tokens is None:
        context = max(1, config.tokens_per_example)
    if config.model is not None:
        for name, value in (("--active", config.active), ("--vocab", config.vocab)):
            if value is not None:
                raise ConfigError(f"`{name}` is known of `--model`", hint="leave it out")
        return named_network(config.model, context)
    return network.from_counts(
        config.params or 0, active=config.active, context=context, vocabulary=config.vocab
    )


def _chip(config: EstimateCost, notes: list[str]) -> Accelerator:
    from llmctl.costs.accelerators import accelerator

    if config.gpu is None and not config.calibrate:
        notes.append(f"no `--gpu` given: {DEFAULT_GPU} is taken")
    return accelerator(config.gpu or DEFAULT_GPU)


def _measured_rate(config: EstimateCost) -> float | None:
    if config.step_time is None:
        return config.tokens_per_second
    if config.batch_tokens is None:
        raise ConfigError(
            "`--step-time` alone says no rate", hint="say with `--batch-tokens` how many a step has"
        )
    if config.step_time <= 0:
        raise ConfigError(f"a step of {config.step_time:g} seconds makes no sense")
    return config.batch_tokens / config.step_time


def _extras(config: EstimateCost, prices: Prices) -> Extras:
    from llmctl.costs.project import Extras

    label = None
    if config.label is not None:
        listed = list(prices.items("label"))
        label = next((item for item in listed if config.label.casefold() in item), None)
        if label is None:
            raise ConfigError(
                f"no price of `{config.label}` labels is listed", hint=f"{'; '.join(listed)}"
            )
    given = {
        "--people": config.people,
        "--label-price": config.label_price,
        "--kwh-price": config.kwh_price,
    }
    for name, value in given.items():
        if value is not None and not 0 <= value < float("inf"):
            raise ConfigError(f"`{name}` cannot be {value:g}", hint="say zero or more")
    return Extras(
        examples=config.examples or 10_000,
        label=label,
        label_price=config.label_price,
        people=config.people,
        kwh_price=config.kwh_price,
    )


def _calibrated(plan: Plan, notes: list[str]) -> Plan:
    """The plan on this machine, at the rate that a small model reaches here."""
    from llmctl.costs.local import timed_machine
    from llmctl.costs.network import from_shape
    from llmctl.costs.throughput import prior
    from llmctl.train.calibration import calibrate

    with console.status("timing a matrix product and a few steps"):
        timed = calibrate()
    chip = timed_machine(timed.matmul_flops)
    small = from_shape(timed.shape, name="nano").with_context(timed.context)
    flops = 6 * small.active + 6 * small.layers * small.attention_width * timed.context
    reached = timed.tokens_per_second * flops / timed.matmul_flops
    expected = prior(chip, active=small.active, gpus=1).mfu
    notes.append(
        f"timed here ({timed.device}, {timed.dtype}): products {timed.matmul_flops / 1e9:,.0f}"
        f" GFLOP/s; a model of {small.active / 1e6:.1f} M trains"
        f" {timed.tokens_per_second:,.0f} tokens/s, {reached:.0%} of that (the prior says"
        f" {expected:.0%})"
    )
    share = prior(chip, active=plan.network.active, gpus=1).mfu * reached / expected
    return plan._replace(chip=chip, mfu=min(share, 1.0), gpus=plan.gpus or 1, days=None)


def _batch(runs: Path, out: Path) -> dict[str, Any]:
    import csv
    import io

    from llmctl.costs.batch import COLUMNS, predict
    from llmctl.costs.tables import read_given

    predictions = list(predict(read_given(runs)))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(one.row() for one in predictions)
    unsaid = sum(one.figures["gpu_hours_mid"] is None for one in predictions)
    console.say(f"{len(predictions) - unsaid} runs estimated, {unsaid} cannot be: see `why`")
    _write(out, text.getvalue().encode())
    return {"runs": len(predictions), "without_prediction": unsaid, "out": str(out)}


def _story(prices: Prices) -> dict[str, Any]:
    from llmctl.costs import sections
    from llmctl.costs.story import YEAR, gpt3

    story = gpt3(prices)
    for index, section in enumerate(sections.story(story)):
        if index:
            console.data()
        _table(section)
    told = sections.stale(prices, YEAR)
    console.points([told] if told else [])
    return story.to_dict()


def _budget(config: EstimateCost, prices: Prices) -> dict[str, Any]:
    from llmctl.costs import sections
    from llmctl.costs.budget import largest
    from llmctl.costs.network import from_counts
    from llmctl.costs.scaling import compute_optimal_tokens

    if config.stage != "pretrain" or config.tokens or config.words or config.examples:
        raise ConfigError(
            "`--budget` finds a model to pre-train, and its tokens",
            hint="leave out `--stage`, and how much text there is",
        )
    notes: list[str] = []
    any_network = from_counts(1e9, context=config.context)
    plan = _plan(config, any_network, compute_optimal_tokens(1e9), notes)
    found = largest(config.budget or 0, plan, prices)
    notes += _notes(found.estimate, prices)
    _table(sections.affordable(found))
    console.points(notes)
    return {
        **found.estimate.to_dict(),
        **_views(config, found.estimate),
        "notes": notes,
        "budget_usd": found.budget,
        "expected_loss": found.loss,
        "who": found.who,
        "inputs": _inputs(config, found.estimate),
    }


def _against(reference: str, workspace: Workspace) -> dict[str, Any]:
    """A finished run of the workspace, beside what would have been said of it."""
    from llmctl.costs import sections
    from llmctl.costs.asking import named_network
    from llmctl.costs.estimate import Plan, estimate
    from llmctl.costs.local import timed_machine

    folder = workspace.model_source(reference).path
    model = next((one for one in workspace.artifacts("model") if one.path == folder), None)
    if model is None:
        raise WorkspaceError(f"{folder} is no finished model of {workspace.root}")
    facts = model.facts
    needed = ("tokens", "seconds", "tokens_per_second", "mfu")
    if not all(facts.get(name) for name in needed):
        raise WorkspaceError(
            f"{model.label} does not say how fast it was trained",
            hint="models that `llmctl pretrain` made do",
        )
    network = named_network(str(folder), facts.get("context"))
    per_token = 6 * network.matmul_parameters
    per_token += 12 * network.layers * network.attention_width * network.context
    ceiling = facts["tokens_per_second"] * per_token / facts["mfu"]
    world = int(facts.get("world_size", 1))
    chip = timed_machine(facts.get("ceiling_flops", ceiling))
    result = estimate(Plan(network=network, tokens=facts["tokens"], chip=chip, gpus=world))
    rows = sections.against(result, facts)
    _table(rows)
    seconds = result.figures["gpu_hours"].scaled(3600 / world, unit="s")
    return {
        "model": model.label,
        "seconds": seconds.to_dict(),
        "measured_seconds": facts["seconds"],
        "factor": seconds.mid / facts["seconds"],
        **result.to_dict(),
    }
