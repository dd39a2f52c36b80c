"""Tokens -> a foundation model, in a folder that transformers opens."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmctl.config import (
    Derived,
    dry_run_knob,
    force_knob,
    identity,
    knob,
    name_knob,
    parse_count,
    to_toml,
)
from llmctl.console import console
from llmctl.devices import Devices
from llmctl.errors import ConfigError, TrainingError, WorkspaceError
from llmctl.figures import count, duration

if TYPE_CHECKING:
    from llmctl.train.distributed.world import World
    from llmctl.workspace import Artifact, Draft, ModelSource, Workspace

# A larger budget alone continues a finished run.
GROWING = frozenset({"tokens", "steps", "minutes"})
# What the knobs of a shape are where nobody says.
SIZE, FAMILY = "nano", "qwen3"
RECIPE, METRICS, PROFILE = "recipe.json", "metrics.jsonl", "profile"
PROMPTS = ("The capital of France is", "Once upon a time", "I went to the")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrain:
    """Train a foundation model on tokens."""

    from_: str | None = knob(
        None, help="The tokens; the newest by default", panel="Input", metavar="TOKENS"
    )
    mix: str | None = knob(
        None, help="Or several by weight: `gpt3`, or `news=0.7,books=0.3`", panel="Input"
    )
    base: str | None = knob(
        None, help="Go on from this model with new text: a NAME, folder or hub id", panel="Model",
        metavar="NAME|DIR|REPO",
    )  # fmt: skip
    replay: float = knob(
        0.05, help="With a base: share of its old text, against forgetting", panel="Input",
        rare=True,
    )  # fmt: skip
    size: str = knob(SIZE, help="The one dial: nano, tiny, small … 175b", panel="Model")
    params: int | None = knob(
        None, help="Or so many parameters, such as 124e6", panel="Model", parse=parse_count
    )
    family: Literal["qwen3", "llama", "gpt2"] = knob(
        FAMILY, help="Whose architecture it has", panel="Model"
    )
    layers: int | None = knob(None, help="Depth", panel="Model", rare=True)
    width: int | None = knob(None, help="Width", panel="Model", rare=True)
    heads: int | None = knob(None, help="Attention heads", panel="Model", rare=True)
    kv_heads: int | None = knob(None, help="Key and value heads", panel="Model", rare=True)
    mlp_width: int | None = knob(None, help="Feed-forward width", panel="Model", rare=True)
    context: int | None = knob(None, help="Tokens that it sees at once", panel="Model")
    tied_head: bool | None = knob(
        None, help="Use the embedding as output matrix", panel="Model", rare=True
    )
    tokens: int | None = knob(
        None, help="Budget in tokens; compute-optimal by default", panel="Training",
        parse=parse_count,
    )  # fmt: skip
    steps: int | None = knob(None, help="Or in steps", panel="Training", parse=parse_count)
    minutes: float | None = knob(None, help="Or in minutes of this machine", panel="Training")
    batch: int | None = knob(None, help="Rows in a step", panel="Training", rare=True)
    micro_batch: int | None = knob(
        None, help="Rows at once; the rest is accumulated", panel="Training", rare=True,
        identity=False,
    )  # fmt: skip
    init: Literal["auto", "bigram", "random"] = knob(
        "auto", help="Embedding and head begin with counts of pairs of tokens, or at random",
        panel="Training", rare=True,
    )  # fmt: skip
    optimizer: Literal["muon", "adamw"] = knob(
        "muon", help="Muon for matrices, or AdamW for all", panel="Training", rare=True
    )
    learning_rate: float | None = knob(
        None, help="Rate of the matrices", panel="Training", rare=True
    )
    embedding_rate: float | None = knob(
        None, help="Rate of embedding and head", panel="Training", rare=True
    )
    weight_decay: float | None = knob(None, help="Of all but vectors", panel="Training", rare=True)
    warmup: int | None = knob(None, help="Warm-up steps", panel="Training", rare=True)
    schedule: Literal["wsd", "cosine"] = knob(
        "wsd", help="Plateau and linear decay, or cosine", panel="Training", rare=True
    )
    decay: float = knob(0.5, help="Share of a wsd run that decays", panel="Training", rare=True)
    clip: float = knob(1.0, help="Largest gradient norm", panel="Training", rare=True)
    seed: int = knob(0, help="Of weights and data order", panel="Training")
    save_every: int | None = knob(
        None, help="Checkpoint after so many steps; every 2 minutes by default", panel="Output",
        identity=False, parse=parse_count,
    )  # fmt: skip
    eval_every: int | None = knob(
        None, help="Score held-out text after so many steps", panel="Output", rare=True,
        parse=parse_count,
    )  # fmt: skip
    eval_tokens: int | None = knob(
        None, help="Score so many held-out tokens at the end; as many as were trained, by default",
        panel="Output", rare=True, identity=False, parse=parse_count,
    )  # fmt: skip
    keep: int = knob(2, help="Checkpoints to keep", panel="Output", rare=True, identity=False)
    profile: bool = knob(
        False, help="Look closely at three steps: where time goes, on a GPU memory too",
        panel="Output", rare=True, identity=False,
    )  # fmt: skip
    precision: Literal["auto", "bf16", "fp8", "tf32", "float32"] = knob(
        "auto",
        help="What to compute in; auto measures; products in fp8 and tf32 are for GPUs",
        panel="Machine",
    )
    compile: Literal["auto", "on", "off"] = knob(
        "auto", help="Compile the model; auto where it pays", panel="Machine", rare=True
    )
    device: str = knob("auto", help="auto, cpu, cuda or mps", panel="Machine", rare=True)
    recompute: Literal["none", "selective", "full"] = knob(
        "none", help="Keep less for the backward pass and compute it again", panel="Machine",
        rare=True, identity=False,
    )  # fmt: skip
    devices: Devices = knob(
        factory=Devices, help="Many devices", panel="Many devices", identity=False
    )
    deterministic: bool = knob(
        False, help="Same bits at every run and resume, on the CPU", panel="Machine"
    )
    name: str | None = name_knob("The model; base by default")
    force: bool = force_knob()
    dry_run: bool = dry_run_knob()


def run(config: Pretrain, workspace: Workspace) -> Artifact | dict[str, Any]:
    """Train `models/NAME` on a tokens artifact, going on where an earlier attempt stood.

    >>> run(Pretrain(size="nano", minutes=1), workspace).facts["val_bits_per_byte"]
    1.9
    """
    from llmctl.train.distributed.world import here

    _check(config)
    world = here()
    if not world.leads:
        console.hush()
    reading = _reading(config, workspace)
    name = config.name or (f"{reading.base_name}-more" if reading.base else "base")
    shape = _shape(config, reading)
    devices = config.devices
    devices.check_teams(
        shape,
        _context(config, shape),
        ranks=_ranks(config, world),
        here=devices.here if world.is_alone else world.local_size,
    )
    try:
        made = None
        if not config.force:
            made = workspace.made("model", name, **_settings(config, reading), growing=GROWING)
    except WorkspaceError as refusal:
        if not config.dry_run:
            raise
        console.warn(f"{refusal}; {refusal.hint}")
        # With another's rows it would not be planned as it is to be run.
        return _plan(config, reading, shape, name) | {"in_the_way": str(refusal)}
    if made:
        console.already_made(made)
        return made
    if config.dry_run:
        return _plan(_as_begun(config, workspace, name), reading, shape, name)
    _check_longer(config, workspace, reading, shape, name)
    _check_found(devices, world)
    if world.is_alone and devices.total > 1:
        # The first of the processes has told all there is to tell.
        return _launched(config, workspace, name)
    world = replace(world, slices=devices.context_parallel, parts=devices.tp)
    artifact = _trained(config, workspace, reading, shape, name, world)
    if artifact is None:
        return {}
    facts = artifact.facts
    console.made(
        artifact,
        f"{count(facts['parameters'])} parameters, {facts['val_bits_per_byte']:.3f} bits per byte",
    )
    console.next(f'llmctl generate "Once upon a time" --model {name}')
    return artifact


def _settings(config: Pretrain, reading: _Reading) -> dict[str, Any]:
    """What makes a model this one: its knobs, and what it is made of."""
    return {"config": identity(config), "inputs": reading.inputs}


def _check_longer(
    config: Pretrain, workspace: Workspace, reading: _Reading, shape: Any, name: str
) -> None:
    """Raise WorkspaceError for a budget that the finished model of that name has used up."""
    earlier = None if config.force else _earlier(workspace, name)
    if earlier is None or workspace.unfinished("model", name):
        return
    unit, asked, done = "minutes", config.minutes, earlier.manifest.config["minutes"]
    if config.minutes is None:
        recipe = _recipe(
            _as_begun(config, workspace, name), shape, reading, _guess_rate(shape, 1e11)
        )
        unit, asked, done = "steps", recipe.steps, earlier.facts["steps"]
    if done is not None and asked <= done:
        raise WorkspaceError(
            f"{earlier.label} was trained for {done:,} {unit}, and {asked:,} are no more",
            hint="a larger budget goes on; `--force` makes it anew; another `--name` keeps both",
        )


def _check_found(devices: Devices, world: World) -> None:
    """Raise ConfigError where there are not the GPUs or the processes that were asked for."""
    from llmctl.model.device import count_gpus

    if not world.is_alone:
        devices.check_world(world.size, world.local_size)
    found = count_gpus()
    # A scheduler may show each of several processes one GPU alone.
    if world.is_alone or not found:
        devices.check_gpus(found)


def _trained(
    config: Pretrain,
    workspace: Workspace,
    reading: _Reading,
    shape: Any,
    name: str,
    world: World,
) -> Artifact | None:
    """The model; None on a rank that does not lead."""
    from llmctl.train.distributed.world import joined
    from llmctl.train.machine import check_precision, take_place

    earlier = None if config.force else _earlier(workspace, name)
    check_precision(config.device, config.precision)
    device = take_place(config.device, world, deterministic=config.deterministic)
    devices = config.devices
    in_rows = devices.parallel in ("fsdp", "hsdp")
    with (
        joined(world, device=device, patience=devices.patience, in_rows=in_rows) as world,
        _draft(config, workspace, reading, name, world) as draft,
    ):
        try:
            training = _open(config, reading, shape, draft, earlier, world)
        except (TrainingError, MemoryError):
            # What does not fit has trained nothing, and what does has other settings.
            if world.leads and not draft.resumed:
                draft.discard()
            raise
        _train(config, training, draft)
        training.write_model(draft.path)
        world.wait_for_all("the first rank to write the model")
        return _finish(config, training, reading, draft) if world.leads else None


@contextlib.contextmanager
def _draft(
    config: Pretrain, workspace: Workspace, reading: _Reading, name: str, world: World
) -> Iterator[Draft]:
    """The draft that all ranks work in; the first one opens it, and finishes it."""
    from llmctl.workspace import Draft

    if not world.leads:
        world.told_by_first("the draft is open")
        yield Draft(workspace, {"kind": "model", "name": name})
        return
    settings = _settings(config, reading)
    with workspace.draft("model", name, **settings, force=config.force) as draft:
        world.told_by_first("the draft is open")
        yield draft


def _launched(config: Pretrain, workspace: Workspace, name: str) -> Artifact:
    """The model that several processes make: this very command in each, started and watched."""
    from llmctl.train.distributed.launch import Launch, supervise

    devices = config.devices
    with tempfile.TemporaryDirectory(prefix="llmctl-") as folder:

        def arguments(attempt: int) -> list[str]:
            # What `--force` did away with is not done away with again.
            anew = config.force and (attempt == 0 or workspace.unfinished("model", name) is None)
            knobs = Path(folder) / "pretrain.toml"
            knobs.write_text(to_toml(replace(config, name=name, force=anew)), encoding="utf-8")
            manner = ["--json", *(["--quiet"] if console.is_quiet else [])]
            place = ["--workspace", str(workspace.root), "--config", str(knobs)]
            return ["-m", "llmctl", "pretrain", *place, *manner]

        supervise(
            Launch(
                arguments=arguments,
                processes=devices.here,
                nodes=devices.nodes,
                rendezvous=devices.rendezvous,
                patience=devices.patience,
                max_restarts=devices.max_restarts,
            ),
            on_restart=console.warn,
        )
    return workspace.find("model", name)


def explain(config: Pretrain, workspace: Workspace) -> dict[str, Derived]:
    """The values that follow from the dial, each with its reason."""
    reading = _reading(config, workspace)
    shape = _shape(config, reading)
    recipe = _recipe(config, shape, reading, _guess_rate(shape, 1e11))
    values = {
        "layers": shape.num_layers,
        "width": shape.width,
        "heads": shape.num_heads,
        "context": shape.context,
        "batch": recipe.rows,
        "steps": recipe.steps,
        "warmup": recipe.schedule.warmup,
        "learning_rate": recipe.rates.matrix,
        "embedding_rate": recipe.rates.embedding,
    }
    why = recipe.reasons | {"learning_rate": recipe.reasons["rates"], "layers": "from the size"}
    return {key: Derived(value, why.get(key, "")) for key, value in values.items()}


def _check(config: Pretrain) -> None:
    budgets = [key for key in ("tokens", "steps", "minutes") if getattr(config, key) is not None]
    if len(budgets) > 1:
        raise ConfigError(
            f"`--{budgets[0]}` and `--{budgets[1]}` both say how long to train", hint="give one"
        )
    for key in ("minutes", "learning_rate", "clip"):
        value = getattr(config, key)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"`--{key.replace('_', '-')} {value}` is not above zero")
    counts = "tokens steps batch micro_batch save_every eval_every eval_tokens keep".split()
    for key in counts:
        value = getattr(config, key)
        if value is not None and value < 1:
            raise ConfigError(f"`--{key.replace('_', '-')} {value}` is not at least 1")
    for key in ("decay", "replay"):
        if not 0 <= getattr(config, key) <= 1:
            raise ConfigError(
                f"`--{key} {getattr(config, key)}` is no share", hint="between 0 and 1"
            )
    if config.mix is not None and config.from_ is not None:
        raise ConfigError("`--from` and `--mix` both say what to read", hint="give one")
    if config.params is not None and config.size != SIZE:
        raise ConfigError("`--size` and `--params` both say how large it is", hint="give one")
    _check_base(config)
    config.devices.check(device=config.device, deterministic=config.deterministic)


def _check_base(config: Pretrain) -> None:
    shaped = "params layers width heads kv_heads mlp_width tied_head".split()
    given = [key for key in shaped if getattr(config, key) is not None]
    usual = {"size": SIZE, "family": FAMILY, "init": "auto"}
    given += [key for key, value in usual.items() if getattr(config, key) != value]
    if config.base is not None and given:
        raise ConfigError(
            f"`--{given[0].replace('_', '-')}` says what `--base` says already",
            hint="a model that goes on keeps its shape",
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a run reads: tokens by their shares, and the model that it goes on from, if any."""

    shares: list[tuple[Artifact, float]]
    base: ModelSource | None

    @property
    def inputs(self) -> list[Any]:
        """All of it, as inputs of the model."""
        tokens = [artifact.as_input() for artifact, _ in self.shares]
        return [*tokens, self.base.input] if self.base else tokens

    @property
    def base_name(self) -> str:
        """The last word of what the base is called."""
        label = self.base.label if self.base else ""
        return label.rpartition("/")[2].partition("@")[0]

    @property
    def vocab_size(self) -> int:
        """Entries of the tokenizer that all tokens were made with."""
        return int(self.shares[0][0].facts["vocab_size"])

    @property
    def train_tokens(self) -> int:
        """Tokens to train on, of all texts together."""
        return sum(artifact.facts["train_tokens"] for artifact, share in self.shares if share)

    @property
    def label(self) -> str:
        """How people see it."""
        if len(self.shares) == 1:
            return self.shares[0][0].label
        return ", ".join(f"{share:.0%} {artifact.name}" for artifact, share in self.shares)


def _reading(config: Pretrain, workspace: Workspace) -> _Reading:
    """The tokens to read and the base; refuses what was not made for one another."""
    from llmctl.data.mixture import parse_mix

    base = None
    if config.base is not None:
        base = workspace.model_source(config.base, sorts=("causal-lm", "chat-lm"))
    if config.mix is None:
        shares = [(workspace.take("tokens", config.from_), 1.0)]
    else:
        wanted = parse_mix(config.mix)
        shares = [(workspace.take("tokens", name), share) for name, share in wanted.items()]
        if config.mix == "gpt3":
            console.note("the published shares sum to 101 %; here they are made to sum to 100 %")
    _check_tokenizers([artifact for artifact, _ in shares], base)
    if base is not None:
        shares = _with_replay(config, workspace, base, shares)
    return _Reading(shares, base)


def _with_replay(
    config: Pretrain,
    workspace: Workspace,
    base: ModelSource,
    shares: list[tuple[Artifact, float]],
) -> list[tuple[Artifact, float]]:
    """The new text with a share of what the base has read, where that is still here."""
    known = {artifact.name for artifact, _ in shares}
    read: list[str] = []
    if base.input.kind == "model":
        made_from = workspace.find("model", base.input.name).manifest.inputs
        read = [one.name for one in made_from if one.kind == "tokens"]
    names = [name for name in read if name not in known]
    old = [workspace.take("tokens", name) for name in names if workspace.has("tokens", name)]
    if not old:
        if names or not read:
            console.note(
                "the text that the base has read is not in the workspace: nothing is replayed"
            )
        return shares
    new = [(artifact, share * (1 - config.replay)) for artifact, share in shares]
    return new + [(artifact, config.replay / len(old)) for artifact in old]


def _check_tokenizers(tokens: list[Artifact], base: ModelSource | None) -> None:
    from llmctl.data.tokenizer import Tokenizer

    digests = {artifact.label: Tokenizer.load(artifact.path).digest for artifact in tokens}
    if len({*digests.values()}) > 1:
        raise ConfigError(
            f"{', '.join(digests)} were made by different tokenizers",
            hint="make them by one: `llmctl tokenize --from … --tokenizer NAME --force`",
        )
    if base is not None and Tokenizer.load(base.path).digest not in digests.values():
        raise ConfigError(
            f"{tokens[0].label} was not made by the tokenizer of {base.label}",
            hint=f"make it so: `llmctl tokenize --from … --tokenizer {base.path} --force`",
        )


def _shape(config: Pretrain, reading: _Reading) -> Any:
    from llmctl.model.checkpoint import read_shape
    from llmctl.model.families import FAMILIES
    from llmctl.registry import look_up
    from llmctl.shapes import named_shape, shape_for

    if reading.base is not None:
        return read_shape(reading.base.path)
    vocab_size = reading.vocab_size
    given = {
        "num_layers": config.layers,
        "width": config.width,
        "num_heads": config.heads,
        "num_kv_heads": config.kv_heads,
        "mlp_width": config.mlp_width,
        "context": config.context,
        "tied_head": config.tied_head,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    traits: dict[str, Any] = {"vocab_size": vocab_size, "family": config.family} | overrides
    if config.params is not None:
        shape = shape_for(config.params, **traits)
    else:
        shape = named_shape(config.size, **traits)
    # A shape that its family's config.json cannot say is refused before training, not after.
    look_up(FAMILIES, shape.family, kind="model family", group="families").config(shape)
    return shape


def _guess_rate(shape: Any, flops_per_second: float) -> float:
    """Tokens a second at 40 % of a rate: good enough to choose a batch by."""
    return 0.4 * flops_per_second / shape.flops_per_token(shape.context)


def _context(config: Pretrain, shape: Any) -> int:
    """The length of a row, which may be shorter than what a base could see."""
    return min(config.context or shape.context, shape.context)


def _ranks(config: Pretrain, world: World) -> int:
    """How many processes train: those that there are, or that this one will start."""
    return config.devices.total if world.is_alone else world.size


def _recipe(config: Pretrain, shape: Any, reading: _Reading, rate: float) -> Any:
    from llmctl.train.distributed.world import here
    from llmctl.train.recipe import Budget, can_foresee, derive

    if config.init == "bigram" and not can_foresee(shape):
        raise ConfigError(
            "`--init bigram` needs a head of its own behind RMSNorm",
            hint="leave it out, or choose `--family qwen3` without `--tied-head`",
        )

    team = config.devices.context_parallel * config.devices.tp
    budget = Budget(
        tokens=config.tokens,
        steps=config.steps,
        seconds=None if config.minutes is None else 60 * config.minutes,
        tokens_per_second=rate,
        teams=max(1, _ranks(config, here()) // team),
    )
    recipe = derive(
        replace(shape, context=_context(config, shape)),
        budget,
        text_tokens=reading.train_tokens,
        optimizer=config.optimizer,
        rows=config.batch,
        is_continued=reading.base is not None,
    )
    rates = recipe.rates
    if config.learning_rate is not None:
        rates = replace(rates, matrix=config.learning_rate)
    if config.embedding_rate is not None:
        rates = replace(rates, embedding=config.embedding_rate, head=config.embedding_rate)
    if config.weight_decay is not None:
        rates = replace(rates, weight_decay=config.weight_decay)
    schedule = replace(
        recipe.schedule,
        kind=config.schedule,
        decay_share=config.decay,
        warmup=recipe.schedule.warmup if config.warmup is None else config.warmup,
    )
    init = recipe.init if config.init == "auto" else config.init
    return replace(recipe, rates=rates, schedule=schedule, init=init)


def _plan(config: Pretrain, reading: _Reading, shape: Any, name: str) -> dict[str, Any]:
    recipe = _recipe(config, shape, reading, _guess_rate(shape, 1e11))
    plan: dict[str, Any] = {
        "kind": "model",
        "name": name,
        "from": reading.label,
        "parameters": shape.parameters,
        "rows": recipe.rows,
        "context": recipe.context,
        "steps": recipe.steps,
        "tokens": None if recipe.steps is None else recipe.steps * recipe.tokens_per_step,
    }
    if recipe.steps is not None:
        plan["epochs"] = float(f"{plan['tokens'] / max(1, reading.train_tokens):.3g}")
        plan["flops"] = plan["tokens"] * shape.flops_per_token(shape.context)
    plan |= _many(config, shape, recipe)
    console.table(f"would make models/{name}", ("", ""), list(_told(plan)))
    return {"plan": plan}


def _told(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The plan as people read it."""
    for key, value in plan.items():
        name = key.replace("_", " ")
        if key == "memory_per_rank":
            yield from ((f"{part} a rank", f"{size / 1e9:.3g} GB") for part, size in value.items())
        elif key == "collectives_per_step":
            yield name, ", ".join(f"{times:,} {kind}" for kind, times in value.items())
        elif key == "device_bytes":
            yield "memory of a device", f"{value / 1e9:.3g} GB"
        elif value is None:
            continue
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        else:
            yield name, f"{value:,}" if isinstance(value, int) else str(value)


def _many(config: Pretrain, shape: Any, recipe: Any) -> dict[str, Any]:
    """What a rank of many would hold, and how often they would talk in a step."""
    from llmctl.train.distributed.world import World
    from llmctl.train.imagined import imagine
    from llmctl.train.pretraining import Settings

    total, here = config.devices.total, config.devices.here
    if total == 1 and config.devices.parallel == "auto":
        return {}
    # More GPUs than a machine has are thought of as machines of eight.
    machine = math.gcd(here, 8) if here > 8 else here
    slices, parts = config.devices.context_parallel, config.devices.tp
    world = World(size=total, local_size=machine, slices=slices, parts=parts)
    settings = Settings(**_chosen(config, Settings))
    return imagine(shape, recipe, settings, world)


def _chosen(config: Pretrain, settings: type) -> dict[str, Any]:
    """The knobs of the command that are settings of a run."""
    known = {field.name for field in dataclasses.fields(settings)}
    told = dataclasses.asdict(config) | dataclasses.asdict(config.devices)
    told["micro_rows"] = config.micro_batch
    return {key: value for key, value in told.items() if key in known}


def _open(
    config: Pretrain,
    reading: _Reading,
    shape: Any,
    draft: Draft,
    earlier: Artifact | None,
    world: World,
) -> Any:
    """The run, standing where an earlier attempt or a shorter run left it."""
    from llmctl.durable import write_durably
    from llmctl.train.distributed.world import began
    from llmctl.train.machine import find_machine
    from llmctl.train.meter import Minutes
    from llmctl.train.pretraining import Job, Pretraining, Settings, Text

    settings = Settings(**_chosen(config, Settings))
    machine = find_machine(
        config.device, config.precision, deterministic=config.deterministic, width=shape.width,
        world=world,
    )  # fmt: skip
    rows = world.told_by_first(_rows(config, draft.path, earlier))
    recipe = _recipe(
        replace(config, batch=rows),
        shape,
        reading,
        world.told_by_first(world.size * _guess_rate(shape, machine.ceiling)),
    )
    origin = _origin(earlier, draft)
    if world.leads:
        begun = {"batch": recipe.rows, "goes_on": origin is not None}
        write_durably(draft.path / RECIPE, json.dumps(begun).encode())
    texts = [
        Text(
            name=tokens.name,
            weight=share,
            directory=tokens.path,
            bytes_per_token=tokens.facts["train_bytes"] / tokens.facts["train_tokens"],
            held_out_bytes_per_token=(
                tokens.facts["validation_bytes"] / tokens.facts["validation_tokens"]
            ),
        )
        for tokens, share in reading.shares
    ]
    minutes = None
    if config.minutes is not None:
        seconds = 60 * config.minutes - _seconds_to_save(shape)
        minutes = Minutes(seconds=seconds, began=began(), plateau=recipe.schedule.plateau)
    job = Job(
        shape=shape,
        recipe=recipe,
        settings=settings,
        machine=machine,
        minutes=minutes,
        base=reading.base.path if reading.base else None,
        world=world,
    )
    training = Pretraining(texts, draft.path, job)
    _say_plan(training, reading)
    if world.leads and origin is not None and not draft.resumed:
        console.say(f"going on from {earlier.label if earlier else ''}, {origin.name}")
        shutil.copy(origin.parent.parent / METRICS, draft.path / METRICS)
    training.run.resume(origin)
    if training.run.resumed_from is not None:
        console.say(f"resumed after step {training.run.resumed_from:,}")
    training.score_first()
    return training


def _rows(config: Pretrain, draft: Path, earlier: Artifact | None) -> int | None:
    """The rows of a step: what an attempt or a shorter run began with stays."""
    before = earlier.facts["rows"] if earlier else None
    return _begun(draft).get("batch") or config.batch or before


def _begun(draft: Path) -> dict[str, Any]:
    """What an attempt froze when it began; nothing where there was none."""
    frozen = draft / RECIPE
    return json.loads(frozen.read_bytes()) if frozen.exists() else {}


def _as_begun(config: Pretrain, workspace: Workspace, name: str) -> Pretrain:
    """With the rows that the run would take, were it no dry one."""
    if config.force:
        return config
    draft = workspace.draft_path("model", name)
    return replace(config, batch=_rows(config, draft, _earlier(workspace, name)))


def _seconds_to_save(shape: Any) -> float:
    """What the end of a run takes beside training: weights and optimizer go to disk."""
    return 0.3 + 12 * shape.parameters / 5e8


def _say_plan(training: Any, reading: _Reading) -> None:
    job = training.job
    recipe, machine = job.recipe, job.machine
    size = f"{count(job.shape.parameters)} parameters ({job.shape.family})"
    start = f"{reading.base.label}, " if reading.base else ""
    console.say(f"{start}{size} on {reading.label}, {machine.device} in {machine.type_name}")
    if recipe.steps is not None:
        epochs = max(training.epochs(recipe.steps))
        total = count(recipe.steps * recipe.tokens_per_step)
        console.say(f"{recipe.steps:,} steps, {total} tokens, {epochs:.2g} epochs of the text")
    layout = training.layout
    if not job.world.is_alone:
        console.say(f"{job.world.size} processes, {layout.kind}: {layout.why}")
    for note in (recipe.reasons.get("tokens"), training.remark):
        if note:
            console.note(note)


def _train(config: Pretrain, training: Any, draft: Draft) -> None:
    """Run to the end under a live line; a signal ends it with the way to go on."""
    from llmctl.train.profiling import Profile

    profile = None
    if config.profile and training.job.world.leads:
        profile = Profile(draft.path / PROFILE, training.job.machine.device)
    closing = contextlib.closing(profile) if profile else contextlib.nullcontext()
    with closing, console.live() as line:

        def tell(facts: Any, pace: Any, steps: int | None) -> None:
            if line.is_due:
                line.update(_told_step(training, facts, pace, steps))
            if profile:
                profile.step(is_settled=steps is not None)

        training.run.on_line = tell
        training.run.train()
    if profile:
        _say_profile(profile.operators)


def _say_profile(operators: Sequence[Any]) -> None:
    """The operators that took the time of the steps that were looked at."""
    if not operators:
        console.warn("the run ended before the steps that `--profile` looks at")
        return
    rows = [
        (one.name, f"{one.calls:,}", f"{one.seconds:.3f}", f"{one.share:.1%}") for one in operators
    ]
    console.table(
        f"the most expensive operators; the trace is in {PROFILE}/",
        ("operator", "calls", "seconds", "of all"),
        rows,
    )


def _told_step(training: Any, facts: Any, pace: Any, steps: int | None) -> str:
    from llmctl.train.meter import memory_gigabytes

    described = training.describe(facts)
    of = f"/{steps:,}" if steps else ""
    left = f"  {duration(pace.seconds_left)} left" if pace.seconds_left else ""
    return (
        f"step {facts.step:,}{of}  loss {facts.loss:.3f}"
        f"  {described['bits_per_byte']:.3f} bits/byte"
        f"  {count(pace.tokens_per_second)} tokens/s  {pace.mfu:.0%} MFU"
        f"  {memory_gigabytes(training.job.machine.device):.1f} GB{left}"
    )


def _finish(config: Pretrain, training: Any, reading: _Reading, draft: Draft) -> Artifact:
    """Lay out the model folder: weights, what going on needs, metrics, picture and page."""
    from llmctl.evals.model_report import Portrait, write_model_report
    from llmctl.report import Tree

    facts = training.facts()
    _say_accounts(facts)
    _say_domains(facts)
    summary = (
        f"{count(facts['parameters'])} parameters, {count(facts['tokens'])} tokens,"
        f" {facts['val_bits_per_byte']:.3f} bits per byte on held-out text"
    )
    with console.status("writing the report"):
        write_model_report(
            draft.path,
            Portrait(
                title=f"models/{draft.name}",
                summary=summary,
                facts=facts,
                config=identity(config),
                metrics=training.run.journal.rows(),
                lineage=Tree(
                    f"models/{draft.name}", "", [_lineage(tokens) for tokens, _ in reading.shares]
                ),
                prompts=PROMPTS,
            ),
            device=config.device,
        )
    return draft.finish(
        facts=facts,
        sort="causal-lm",
        device=str(training.job.machine.device),
        scaffold=[draft.path / RECIPE, *training.run.scaffold(goes_on=True)],
    )


def _lineage(tokens: Artifact) -> Any:
    from llmctl.report import Tree

    parents = [Tree(f"{one.kind} {one.name}", one.digest[:12]) for one in tokens.manifest.inputs]
    return Tree(tokens.label, tokens.digest[:12], parents)


def _say_accounts(facts: Mapping[str, Any]) -> None:
    console.say(
        f"{count(facts['tokens'])} tokens read = {count(facts['tokens_trained'])} trained"
        f" + {count(facts['tokens_padded'])} padded + {count(facts['tokens_dropped'])} dropped"
        f" in {duration(facts['seconds'])}"
    )


def _say_domains(facts: Mapping[str, Any]) -> None:
    """What going on brought for the new text, and cost for the old."""
    before = facts.get("before", {})
    after = facts.get("domains") or {"bits per byte": facts["val_bits_per_byte"]}
    was = before.get("domains") or {"bits per byte": before.get("val_bits_per_byte")}
    if before:
        rows = [(name, f"{was[name]:.3f}", f"{bits:.3f}") for name, bits in after.items()]
        console.table("bits per byte of held-out text", ("", "before", "after"), rows)
    elif "mix" in facts:
        rows = [
            (name, f"{one['share']:.1%}", f"{one['epochs']:.2f}", f"{after[name]:.3f}")
            for name, one in facts["mix"].items()
        ]
        console.table("", ("text", "share", "epochs", "bits per byte"), rows)


def _earlier(workspace: Workspace, name: str) -> Artifact | None:
    """The finished model of that name, from which a longer run goes on."""
    return workspace.find("model", name) if workspace.has("model", name) else None


def _origin(earlier: Artifact | None, draft: Draft) -> Path | None:
    """The checkpoint that a longer run goes on from; None where `--force` began the draft."""
    if earlier is None or not _begun(draft.path).get("goes_on", not draft.resumed):
        return None
    return next(iter(sorted((earlier.path / "state").glob("step-*"))), None)
