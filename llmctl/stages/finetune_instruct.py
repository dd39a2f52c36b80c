"""A file of questions and answers and a base model -> a model that answers."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmctl.config import dry_run_knob, force_knob, identity, knob, name_knob, parse_count
from llmctl.console import console
from llmctl.errors import ConfigError
from llmctl.tuning import WITH_ADAPTERS, check_adapters, check_source

if TYPE_CHECKING:
    from llmctl.workspace import Artifact, Draft, Workspace

# What decides how a file is read: nothing to labelled data that is made.
READING = ("prompt", "response", "system", "test")
# What says how adapters are: nothing where a method has none.
ADAPTERS = ("rank", "alpha", "dropout", "targets", "dora")
SAMPLES = "samples.jsonl"
AFTER, BEFORE = "tuned", "before"
HELD_OUT = ("validation", "test")
MOST_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneInstruct:
    """Teach a language model to answer, by questions and answers."""

    file: Path | None = knob(
        None, help="Alpaca, ShareGPT, messages, prompt and completion, two columns …",
        positional=True, metavar="DATA",
    )  # fmt: skip
    data: str | None = knob(
        None, help="Or labelled data of the workspace, by name", panel="Input", metavar="NAME"
    )
    base: str | None = knob(
        None, help="A NAME, a folder or a hub id; the newest model by default", panel="Model",
        metavar="NAME|DIR|REPO",
    )  # fmt: skip
    prompt: str | None = knob(
        None, help="The question as a template: `Case: {facts}`", panel="Input"
    )
    response: str | None = knob(None, help="The answer as a template", panel="Input")
    system: str | None = knob(
        None, help="The system prompt as a template", panel="Input", rare=True
    )
    test: Path | None = knob(
        None, help="A test set of its own; a share of the data by default", panel="Input",
        metavar="FILE", rare=True,
    )  # fmt: skip
    inspect: int | None = knob(
        None, help="Show so many rows, what is trained and what is not, and stop", panel="Input",
        identity=False, metavar="N",
    )  # fmt: skip
    method: Literal["full", "lora", "qlora"] = knob(
        "full",
        help="Train all of it, or adapters; qlora keeps the base in 4 bits",
        panel="Training",
    )
    epochs: float | None = knob(None, help="Rounds at most; by the data's size", panel="Training")
    learning_rate: float | None = knob(None, help="By the model's width", panel="Training")
    batch: int = knob(8, help="Packed rows in a step", panel="Training", parse=parse_count)
    context: int | None = knob(
        None,
        help="Tokens of a row; the model's own by default",
        panel="Training",
        parse=parse_count,
    )
    packing: bool = knob(
        True, help="Let conversations share rows, unseen by each other", panel="Training", rare=True
    )
    patience: int = knob(
        3, help="Stop after so many epochs without a better one", panel="Training", rare=True
    )
    optimizer: Literal["muon", "adamw"] = knob(
        "adamw", help="AdamW for all, or Muon for matrices", panel="Training", rare=True
    )
    rank: int = knob(8, help="Rank of the adapters", panel="Training")
    alpha: float = knob(16.0, help="Their strength", panel="Training", rare=True)
    dropout: float = knob(0.0, help="Their dropout", panel="Training", rare=True)
    dora: bool = knob(False, help="Let them learn magnitudes too", panel="Training", rare=True)
    targets: str | None = knob(
        None, help="The matrices that have them, such as query,value; all by default",
        panel="Training", rare=True, metavar="NAMES",
    )  # fmt: skip
    samples: int = knob(
        32, help="Test questions to answer, before and after", panel="Report", rare=True,
        parse=parse_count,
    )  # fmt: skip
    seed: int = knob(0, help="Of a file's split, adapters and data order", panel="Training")
    precision: Literal["auto", "bf16", "float32"] = knob(
        "auto", help="What to compute in; auto measures", panel="Machine", rare=True
    )
    device: str = knob("auto", help="auto, cpu, cuda or mps", panel="Machine", rare=True)
    save_every: int | None = knob(
        None, help="Checkpoint after so many steps; each epoch by default", panel="Output",
        identity=False, rare=True, parse=parse_count,
    )  # fmt: skip
    name: str | None = name_knob("The model; the data's name by default")
    force: bool = force_knob()
    dry_run: bool = dry_run_knob()


def run(config: FinetuneInstruct, workspace: Workspace) -> Artifact | dict[str, Any]:
    """Make `labeled/NAME` of the file and train `models/NAME` on its answers.

    >>> run(FinetuneInstruct(file=Path("support.json")), workspace).facts["test_loss"]
    1.43
    """
    began = time.monotonic()
    _check(config)
    base = workspace.model_source(config.base, sorts=("causal-lm", "chat-lm"))
    if config.dry_run:
        return _plan(config, workspace, base)
    labeled = _labeled(config, workspace)
    name = config.name or labeled.name
    if config.inspect:
        return _inspect(config, labeled, base)
    settings: dict[str, Any] = {
        "config": identity(config)
        | dict.fromkeys(("file", *READING))
        | {"data": labeled.name, "base": base.reference},
        "inputs": [labeled.as_input(), base.input],
    }
    made = None if config.force else workspace.made("model", name, **settings)
    if made:
        console.already_made(made)
        return made
    with workspace.draft("model", name, **settings, force=config.force) as draft:
        console.say(f"fine-tuning {base.label} on {labeled.label}")
        artifact = _trained(config, labeled, base, draft, began)
    facts = artifact.facts
    console.made(
        artifact,
        f"loss on unseen answers {facts['test_loss_before']:.3f} -> {facts['test_loss']:.3f}",
    )
    console.next(f"llmctl chat --model {name}")
    return artifact


def _check(config: FinetuneInstruct) -> None:
    check_source(config, READING, rows="conversations")
    for key in ("epochs", "learning_rate", "alpha"):
        value = getattr(config, key)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"`--{key.replace('_', '-')} {value}` is not above zero")
    for key in ("inspect", "batch", "context", "patience", "rank", "samples", "save_every"):
        value = getattr(config, key)
        if value is not None and value < 1:
            raise ConfigError(f"`--{key.replace('_', '-')} {value}` is not at least 1")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"`--dropout {config.dropout}` is no share below 1")
    check_adapters(config, ADAPTERS)
    if config.method in WITH_ADAPTERS:
        _adapters(config)  # which refuses matrices that there are not
    if config.method == "qlora":
        _check_four_bits(config)


def _check_four_bits(config: FinetuneInstruct) -> None:
    """Say before anything is read that it cannot be done."""
    from llmctl.model.four_bit import load_bitsandbytes

    if config.dora:
        raise ConfigError(
            "`--dora` needs whole weights, and `--method qlora` keeps four bits of them",
            hint="take `--method lora`, or leave `--dora` out",
        )
    load_bitsandbytes()


def _adapters(config: FinetuneInstruct) -> Any:
    from llmctl.model.low_rank import settings_of

    return settings_of(config, dora=config.dora)


def _labeled(config: FinetuneInstruct, workspace: Workspace) -> Artifact:
    """The conversations: of the workspace, or made of the file now."""
    from llmctl.data.labeled.artifact import write_conversations
    from llmctl.workspace import outside

    if config.file is None:
        return workspace.take("labeled", config.data)
    knobs = _columns(config)
    inputs = [outside(path) for path in (config.file, config.test) if path is not None]

    def fill(directory: Path) -> dict[str, Any]:
        found = _read(config)
        write_conversations(found, directory)
        return found.facts

    return workspace.obtain(
        "labeled", config.name or inputs[0].name, config={"kind": "conversations", **knobs},
        inputs=inputs, fill=fill, force=config.force,
    )  # fmt: skip


def _columns(config: FinetuneInstruct) -> dict[str, Any]:
    """The knobs that decide what is read of a file."""
    return {
        "prompt": config.prompt,
        "response": config.response,
        "system": config.system,
        "seed": config.seed,
    }


def _read(config: FinetuneInstruct) -> Any:
    """What the file holds, and everything that was assumed about it said."""
    from llmctl.data.labeled.conversations import read_conversations

    found = read_conversations(Path(config.file or ""), test=config.test, **_columns(config))
    for remark in found.remarks:
        console.note(remark)
    return found


def _inspect(config: FinetuneInstruct, labeled: Artifact, base: Any) -> dict[str, Any]:
    """Print what a few rows are to the model, and which of it is trained."""
    from llmctl.data.labeled.artifact import read_dialogues
    from llmctl.data.template import ChatTemplate, check_rendering
    from llmctl.data.tokenizer import Tokenizer

    template = ChatTemplate(Tokenizer.load(base.path))
    rows = read_dialogues(labeled.path, "train")[: config.inspect]
    told: list[dict[str, Any]] = []
    for one, rendered in zip(rows, check_rendering(template, rows), strict=True):
        texts = [template.tokenizer.token_text(token) for token in rendered.ids]
        console.say(f"{one.id}: {sum(rendered.trained)} of {len(texts)} tokens are trained")
        console.marked(list(zip(texts, rendered.trained, strict=True)))
        told.append({"id": one.id, "tokens": texts, "trained": rendered.trained})
    return {"rows": told}


def _plan(config: FinetuneInstruct, workspace: Workspace, base: Any) -> dict[str, Any]:
    """What would be made; nothing is."""
    from llmctl.data.labeled.artifact import read_conversations_artifact
    from llmctl.data.template import ChatTemplate
    from llmctl.data.tokenizer import Tokenizer
    from llmctl.train.instructing import batches_of, fit
    from llmctl.workspace import outside

    if config.file is None:
        labeled = workspace.take("labeled", config.data)
        found, name = read_conversations_artifact(labeled.path), config.name or labeled.name
    else:
        found, name = _read(config), config.name or outside(config.file).name
    workspace.check_name(name)
    course, _ = _course(config, found, base)
    template = ChatTemplate(Tokenizer.load(base.path))
    fitted = fit(course.train, template, course.context, side="train")
    _say_cuts(fitted, "train")
    for side in HELD_OUT:  # which the run refuses as well, where none fits
        _say_cuts(fit(found.splits[side], template, course.context, side=side), side)
    batches = batches_of(fitted.rows, course, template)
    epochs = course.dose.epochs
    plan = {
        "kind": "model",
        "name": name,
        "base": base.label,
        "method": config.method,
        "conversations": {side: len(rows) for side, rows in found.splits.items()},
        "packed_rows": len(batches.packs),
        "most_epochs": epochs,
        "most_steps": math.ceil(epochs * batches.steps_per_epoch),
        "most_tokens": round(epochs * sum(len(one.ids) for one in fitted.rows)),
    }
    console.plan(f"models/{name}", plan)
    return {"plan": plan}


def _trained(
    config: FinetuneInstruct, labeled: Artifact, base: Any, draft: Draft, began: float
) -> Artifact:
    """Train to the best epoch, let both models answer, and lay out the model folder."""
    from llmctl.data.labeled.artifact import read_conversations_artifact
    from llmctl.train.instructing import Instructing
    from llmctl.train.told import telling

    found = read_conversations_artifact(labeled.path)
    training = Instructing(*_course(config, found, base))
    _say_fitted(training)
    held = {side: training.fit(found.splits[side], side) for side in HELD_OUT}
    for side, fitted in held.items():
        _say_cuts(fitted, side)
    test = found.splits["test"]
    before = training.score_base(test)
    run = training.start(draft.path)
    if run.resumed_from is not None:
        console.say(f"resumed after step {run.resumed_from:,}")
    with console.live() as line:
        run.on_line = telling(line)
        run.train()
    run.take_best()
    training.finish(draft.path)
    after = training.score(test)
    facts: dict[str, Any] = {
        "test_loss_before": before.loss,
        "test_loss": after.loss,
        "test_targets": after.targets,
        "train_examples": len(training.fitted.rows),
        "validation_examples": len(held["validation"].rows),
        "test_examples": len(held["test"].rows),
        "shortened": training.fitted.shortened,
        "left_out": len(training.fitted.left_out),
        "parameters": training.model.shape.parameters,
        "trained_parameters": training.tuning.trained_parameters,
        "steps": training.tuning.trainer.progress.step,
        "best_epoch": run.best_step / training.tuning.batches.steps_per_epoch,
        "tokens_per_second": round(run.meter.typical_rate, 1),
        "train_seconds": round(run.meter.seconds, 3),
    }
    facts |= _report(config, base, draft, facts, test, run.journal.rows())
    facts |= {"seconds": round(time.monotonic() - began, 3), "resumed_from": run.resumed_from}
    return draft.finish(
        facts=facts,
        sort="chat-lm",
        device=str(training.tuning.machine.device),
        scaffold=run.scaffold(goes_on=False),
    )


def _course(config: FinetuneInstruct, found: Any, base: Any) -> tuple[Any, Any]:
    """What to train, and where."""
    from llmctl.model.checkpoint import read_shape
    from llmctl.train.instructing import Course
    from llmctl.train.machine import find_machine
    from llmctl.train.tuning_recipe import dose

    shape = read_shape(base.path)
    if config.context is not None and config.context > shape.context:
        raise ConfigError(
            f"`--context {config.context}` is more than the {shape.context:,} tokens of"
            f" {base.label}",
            hint="leave it out, or take a base model that has a larger one",
        )
    course = Course(
        base=base.path,
        train=found.splits["train"],
        validation=found.splits["validation"],
        method=config.method,
        dose=dose(
            shape.width,
            len(found.splits["train"]),
            method=config.method,
            epochs=config.epochs,
            rate=config.learning_rate,
            patience=config.patience,
            optimizer=config.optimizer,
            save_every=config.save_every,
            seed=config.seed,
        ),
        rows=config.batch,
        context=config.context or shape.context,
        adapters=_adapters(config),
        seed=config.seed,
        is_packed=config.packing,
    )
    return course, find_machine(config.device, config.precision, width=shape.width)


def _say_fitted(training: Any) -> None:
    fitted, course, tuning = training.fitted, training.course, training.tuning
    rows = len(tuning.batches.packs)
    console.say(
        f"{len(fitted.rows):,} conversations in {rows:,} rows of {course.context},"
        f" at most {course.dose.epochs:.3g} epochs,"
        f" {tuning.machine.device} in {tuning.machine.type_name}"
    )
    _say_cuts(fitted, "train")


def _say_cuts(fitted: Any, side: str) -> None:
    if fitted.shortened:
        console.warn(
            f"{side}: conversations that lose their beginning, too long: {fitted.shortened:,}"
        )
    if fitted.left_out:
        shown = ", ".join(fitted.left_out[:MOST_SHOWN])
        console.warn(
            f"{side}: conversations left out, whose answers do not fit: {len(fitted.left_out):,}"
            f" (the first: {shown})"
        )


def _report(
    config: FinetuneInstruct,
    base: Any,
    draft: Draft,
    facts: dict[str, Any],
    test: Any,
    metrics: list[dict[str, Any]],
) -> dict[str, Any]:
    """Let both models answer test questions; the page, and what it says as facts."""
    from llmctl.evals.bootstrap import doubt
    from llmctl.evals.chat_report import ChatPortrait, answer, told_scores, write_chat_report
    from llmctl.report import lineage

    models = {AFTER: draft.path, BEFORE: base.path}
    with console.status("letting both models answer"):
        answered = answer(models, test[: config.samples], device=config.device)
    lines = [json.dumps(one, ensure_ascii=False) for one in answered.rows()]
    (draft.path / SAMPLES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = told_scores(answered)
    console.table("on questions that it never saw", table.columns, table.rows)
    if told := doubt(len(answered.questions)):
        console.warn(told)
    write_chat_report(
        draft.path,
        ChatPortrait(
            title=f"models/{draft.name}",
            summary=f"loss on unseen answers {facts['test_loss_before']:.3f} before,"
            f" {facts['test_loss']:.3f} after",
            answered=answered,
            facts=facts,
            config=identity(config),
            metrics=metrics,
            lineage=lineage(f"models/{draft.name}", draft.plan["inputs"]),
        ),
    )
    return answered.facts(beside="base")
