"""A file of labelled texts and a base model -> a classifier, and proof of what that brought."""

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
READING = ("text_column", "label_column", "test")
# What says how adapters are: nothing where a method has none.
ADAPTERS = ("rank", "alpha", "dropout", "targets")
METRICS = "metrics.jsonl"
PREDICTIONS = "test_predictions.jsonl"
# In the draft alone: the base that has learnt to write the texts, its facts, and that run.
ADAPTED, FACTS, ADAPTING = "adapted", "facts.json", "adapting"
# And how many mixed texts stand in a step, so that a resumed run does not decide anew.
MIXED = "mixed.json"
BEFORE = "the base model before tuning"
MOST_CLASSES_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneClassify:
    """Make a classifier out of a language model and labelled texts."""

    file: Path | None = knob(
        None, help="csv, tsv, jsonl, parquet, or a folder with a folder a label", positional=True,
        metavar="DATA",
    )  # fmt: skip
    data: str | None = knob(
        None, help="Or labelled data of the workspace, by name", panel="Input", metavar="NAME"
    )
    base: str | None = knob(
        None, help="A NAME, a folder or a hub id; the newest model by default", panel="Model",
        metavar="NAME|DIR|REPO",
    )  # fmt: skip
    text_column: str | None = knob(None, help="The texts; found by default", panel="Input")
    label_column: str | None = knob(None, help="Their classes; found by default", panel="Input")
    test: Path | None = knob(
        None, help="A test set of its own; a fifth of the data by default", panel="Input",
        metavar="FILE",
    )  # fmt: skip
    method: Literal["full", "lora", "head"] = knob(
        "full", help="Train all of it, adapters, or its last block and a head", panel="Training"
    )
    epochs: float | None = knob(None, help="Rounds at most; by the data's size", panel="Training")
    learning_rate: float | None = knob(None, help="By the model's width", panel="Training")
    batch: int = knob(16, help="Texts in a step", panel="Training", parse=parse_count)
    balance: bool = knob(False, help="Let rare classes weigh more", panel="Training")
    noise: float = knob(
        0.15, help="Share of tokens that others stand for, against learning by heart",
        panel="Training", rare=True,
    )  # fmt: skip
    adapt: float | None = knob(
        None, help="Epochs over the texts alone first; where they are strange to the base",
        panel="Training", rare=True,
    )  # fmt: skip
    distill: float | None = knob(
        None, help="Texts of mixed words for each, labelled by TF-IDF; 2 where that pays",
        panel="Training", rare=True,
    )  # fmt: skip
    init: Literal["auto", "counts", "base"] = knob(
        "auto", help="Embedding of the base, or with what counts say; counts for easy labels",
        panel="Training", rare=True,
    )  # fmt: skip
    patience: int | None = knob(
        None, help="Stop after so many epochs without a better one; half of them",
        panel="Training", rare=True,
    )  # fmt: skip
    optimizer: Literal["muon", "adamw"] = knob(
        "adamw", help="AdamW for all, or Muon for matrices", panel="Training", rare=True
    )
    rank: int = knob(8, help="Rank of the adapters of `lora`", panel="Training", rare=True)
    alpha: float = knob(16.0, help="Their strength", panel="Training", rare=True)
    dropout: float = knob(0.0, help="Their dropout", panel="Training", rare=True)
    targets: str | None = knob(
        None, help="The matrices that have them, such as query,value; all by default",
        panel="Training", rare=True, metavar="NAMES",
    )  # fmt: skip
    seed: int = knob(0, help="Of a file's split, head and data order", panel="Training")
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


def run(config: FinetuneClassify, workspace: Workspace) -> Artifact | dict[str, Any]:
    """Make `labeled/NAME` of the file and train `models/NAME` on it.

    >>> run(FinetuneClassify(file=Path("spam.csv")), workspace).facts["accuracy"]
    0.988
    """
    began = time.monotonic()
    _check(config)
    base = workspace.model_source(config.base, sorts=("causal-lm", "chat-lm"))
    if config.dry_run:
        return _plan(config, workspace, base)
    labeled = _labeled(config, workspace)
    name = config.name or labeled.name
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
        training = _train(config, labeled, base, draft)
        artifact = _finish(config, training, labeled, draft, began)
    facts = artifact.facts
    console.made(artifact, f"accuracy {facts['accuracy']:.1%}, macro-F1 {facts['macro_f1']:.3f}")
    console.next(f'llmctl predict "a text of yours" --model {name}')
    return artifact


def _check(config: FinetuneClassify) -> None:
    check_source(config, READING, rows="texts")
    if config.distill and config.method == "head":
        raise ConfigError(
            "`--distill` makes new texts, and `--method head` reads the given ones once",
            hint="`--method full` or `lora` go with it",
        )
    if config.init == "counts" and config.method != "full":
        raise ConfigError(
            f"`--init counts` changes the embedding, and `--method {config.method}` does not",
            hint="`--method full` goes with it",
        )
    _check_numbers(config)
    check_adapters(config, ADAPTERS)
    if config.method in WITH_ADAPTERS:
        _adapters(config)  # which refuses matrices that there are not


def _check_numbers(config: FinetuneClassify) -> None:
    for key in ("epochs", "learning_rate", "alpha"):
        value = getattr(config, key)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"`--{key.replace('_', '-')} {value}` is not above zero")
    for key in ("batch", "patience", "rank", "save_every"):
        value = getattr(config, key)
        if value is not None and value < 1:
            raise ConfigError(f"`--{key.replace('_', '-')} {value}` is not at least 1")
    for key in ("adapt", "distill"):
        value = getattr(config, key)
        if value is not None and not 0 <= value < float("inf"):
            raise ConfigError(
                f"`--{key} {value}` is no number from zero up", hint="0 leaves it out"
            )
    for key in ("dropout", "noise"):
        if not 0 <= getattr(config, key) < 1:
            raise ConfigError(f"`--{key} {getattr(config, key)}` is no share below 1")


def _adapters(config: FinetuneClassify) -> Any:
    from llmctl.model.low_rank import settings_of

    return settings_of(config)


def _labeled(config: FinetuneClassify, workspace: Workspace) -> Artifact:
    """The labelled data: of the workspace, or made of the file now."""
    from llmctl.data.labeled.artifact import write_classes
    from llmctl.workspace import outside

    if config.file is None:
        return workspace.take("labeled", config.data)
    knobs = _columns(config)
    inputs = [outside(path) for path in (config.file, config.test) if path is not None]

    def fill(directory: Path) -> dict[str, Any]:
        found = _read(config)
        write_classes(found, directory)
        return found.facts

    return workspace.obtain(
        "labeled", config.name or inputs[0].name, config={"kind": "classes", **knobs},
        inputs=inputs, fill=fill, force=config.force,
    )  # fmt: skip


def _columns(config: FinetuneClassify) -> dict[str, Any]:
    """The knobs that decide what is read of a file."""
    return {
        "text_column": config.text_column,
        "label_column": config.label_column,
        "seed": config.seed,
    }


def _read(config: FinetuneClassify) -> Any:
    """What the file holds, and everything that was assumed about it said."""
    from llmctl.data.labeled.classes import read_classes

    found = read_classes(Path(config.file or ""), test=config.test, **_columns(config))
    for remark in found.remarks:
        console.note(remark)
    return found


def _plan(config: FinetuneClassify, workspace: Workspace, base: Any) -> dict[str, Any]:
    """What would be made; nothing is."""
    from llmctl.data.labeled.artifact import read_classes_artifact
    from llmctl.model.checkpoint import read_shape
    from llmctl.model.classifier import told_cut
    from llmctl.train.classifying import tokenizer_for
    from llmctl.workspace import outside

    if config.file is None:
        labeled = workspace.take("labeled", config.data)
        found, name = read_classes_artifact(labeled.path), config.name or labeled.name
    else:
        found, name = _read(config), config.name or outside(config.file).name
    workspace.check_name(name)
    shape, tokenizer = read_shape(base.path), tokenizer_for(base.path)
    texts = found.splits["train"]
    mixed = _mixed_rows(config, len(texts)) / config.batch
    dose = _dose(config, shape.width, len(texts), mixed)
    sizes = [len(tokenizer.encode_prompt(one.text)) for one in texts]
    cut = sum(size > shape.context for size in sizes)
    if cut:
        console.warn(told_cut(cut, len(texts), shape.context))
    tokens = sum(min(size, shape.context) for size in sizes)
    rounds = _adapting_dose(config, shape.width, len(texts)).epochs
    plan = {
        "kind": "model",
        "name": name,
        "base": base.label,
        "method": config.method,
        "texts": {side: len(rows) for side, rows in found.splits.items()},
        "classes": len(found.classes),
        "most_epochs_before_labels": rounds if _may_adapt(config) else 0,
        "most_epochs": dose.epochs,
        "most_mixed_texts": int(mixed * len(texts)),
        "most_steps": math.ceil(dose.epochs * math.ceil(len(texts) / config.batch)),
        "most_tokens": round(dose.epochs * tokens * (1 + mixed)),
    }
    console.plan(f"models/{name}", plan)
    return {"plan": plan}


def _dose(config: FinetuneClassify, width: int, texts: int, mixed: float) -> Any:
    from llmctl.train.tuning_recipe import dose

    return dose(
        width,
        texts,
        method=config.method,
        epochs=config.epochs,
        rate=config.learning_rate,
        patience=config.patience,
        optimizer=config.optimizer,
        save_every=config.save_every,
        mixed=mixed,
        seed=config.seed,
    )


def _may_adapt(config: FinetuneClassify) -> bool:
    """Whether the base is to learn to write the texts, if it finds them strange."""
    return config.adapt != 0 and (config.adapt is not None or config.method == "full")


def _may_mix(config: FinetuneClassify) -> bool:
    """Whether texts of mixed words are to be learnt from, where that pays."""
    return config.distill != 0 and (config.distill is not None or config.method == "full")


def _mixed_rows(config: FinetuneClassify, texts: int) -> int:
    """How many texts of mixed words stand in a step beside those of so many, if that pays."""
    from llmctl.train.tuning_recipe import mixed_texts

    if not _may_mix(config):
        return 0
    return round(config.batch * (mixed_texts(texts) if config.distill is None else config.distill))


def _adapting_dose(config: FinetuneClassify, width: int, texts: int) -> Any:
    from llmctl.train.tuning_recipe import adapting_dose

    return adapting_dose(width, texts, epochs=config.adapt, seed=config.seed)


def _train(config: FinetuneClassify, labeled: Artifact, base: Any, draft: Draft) -> Any:
    """Train to the end under a live line; a signal ends it with the way to go on."""
    from llmctl.data.labeled.artifact import read_classes_artifact
    from llmctl.evals.classification import macro_f1_error, score
    from llmctl.model.checkpoint import read_shape
    from llmctl.model.classifier import told_cut
    from llmctl.train.classifying import Classifying, Lesson, untuned_logits
    from llmctl.train.machine import find_machine
    from llmctl.train.told import telling

    found = read_classes_artifact(labeled.path)
    width = read_shape(base.path).width
    machine = find_machine(config.device, config.precision, width=width)
    met = _meet(config, found, base, draft, machine)
    baseline = _baseline(found)
    teacher = _teacher(config, found, met, baseline, draft)
    is_adapted = "bits_per_byte_adapted" in met
    lesson = Lesson(
        base=draft.path / ADAPTED if is_adapted else base.path,
        is_base_kept=not is_adapted,
        classes=found.classes,
        train=found.splits["train"],
        validation=found.splits["validation"],
        method=config.method,
        dose=_dose(
            config, width, len(found.splits["train"]), teacher.rows / config.batch if teacher else 0
        ),
        rows=config.batch,
        is_balanced=config.balance,
        is_counted=_is_counted(config, met, teacher),
        noise=config.noise,
        teacher=teacher,
        adapters=_adapters(config),
        seed=config.seed,
        judge=score,
        doubt=macro_f1_error,
    )
    training = Classifying(lesson, machine)
    test = [one.text for one in found.splits["test"]]
    before = untuned_logits(base.path, len(found.classes), test, machine, seed=config.seed)
    run = training.start(draft.path)
    console.say(
        f"{len(lesson.train):,} texts in {len(lesson.classes)} classes"
        f"{f', {training.mixed:,} of mixed words beside them' if training.mixed else ''},"
        f" at most {lesson.dose.epochs:.3g} epochs, {machine.device} in {machine.type_name}"
    )
    if training.cut:
        learnt = len(lesson.train) + len(lesson.validation)
        console.warn(told_cut(training.cut, learnt, training.model.shape.context))
    if run.resumed_from is not None:
        console.say(f"resumed after step {run.resumed_from:,}")
    with console.live() as line:
        run.on_line = telling(line)
        run.train()
    facts = met | {"mixed_texts": training.mixed, "init": "counts" if lesson.is_counted else "base"}
    return _Trained(found, training, run, before, baseline.predictions(test), facts)


def _baseline(found: Any) -> Any:
    from llmctl.evals.baseline import Baseline

    with console.status("training the baseline"):
        return Baseline(found.splits["train"], found.splits["validation"], len(found.classes))


def _teacher(
    config: FinetuneClassify, found: Any, met: dict[str, Any], baseline: Any, draft: Draft
) -> Any:
    """The baseline as a teacher of texts of mixed words, where that pays; or none."""
    from llmctl.durable import write_durably
    from llmctl.train.classifying import Teacher
    from llmctl.train.tuning_recipe import is_easy

    place = draft.path / MIXED
    if not place.exists():
        easy = is_easy(baseline.macro_f1, len(found.splits["validation"]))
        pays = config.distill is not None or (_is_strange(met) and not easy)
        rows = _mixed_rows(config, len(found.splits["train"])) if pays else 0
        write_durably(place, json.dumps({"rows": rows}).encode())
    rows = json.loads(place.read_bytes())["rows"]
    return Teacher(baseline.shares, rows) if rows else None


def _is_strange(met: dict[str, Any]) -> bool:
    """Whether the base has hardly seen texts like these."""
    from llmctl.train.tuning_recipe import STRANGE

    return met.get("bits_per_byte_before", 0.0) > STRANGE


def _is_counted(config: FinetuneClassify, met: dict[str, Any], teacher: Any) -> bool:
    """Whether the embedding begins with what counts of tokens say of the classes.

    Of itself where the labels are so easy that mixed texts teach nothing; these teach more.
    """
    if config.init == "auto":
        is_easy = _may_mix(config) and config.distill is None and teacher is None
        return is_easy and _is_strange(met)
    return config.init == "counts"


def _meet(
    config: FinetuneClassify, found: Any, base: Any, draft: Draft, machine: Any
) -> dict[str, Any]:
    """How strange the texts are to the base, which learns to write them first if it is to.

    The facts of that; none where nobody asks.
    """
    from llmctl.durable import sealed_directory
    from llmctl.model.checkpoint import read_shape
    from llmctl.train.adapting import Adapting, Texts, bits_per_byte
    from llmctl.train.told import telling

    place = draft.path / ADAPTED
    if (place / FACTS).exists():
        return json.loads((place / FACTS).read_bytes())
    if not (_may_adapt(config) or (_may_mix(config) and config.distill is None)):
        return {}
    texts = Texts(*([one.text for one in found.splits[side]] for side in ("train", "validation")))
    before = bits_per_byte(base.path, texts.validation, machine)
    met = {"bits_per_byte_before": before}
    if not _may_adapt(config) or (config.adapt is None and not _is_strange(met)):
        return met
    dose = _adapting_dose(config, read_shape(base.path).width, len(texts.train))
    console.say(
        f"{base.label} takes {before:.2f} bits for a byte of these texts:"
        f" first it learns to write them, for {dose.epochs:.3g} epochs"
    )
    adapting = Adapting(base.path, texts, dose, machine)
    (draft.path / ADAPTING).mkdir(exist_ok=True)
    run = adapting.start(draft.path / ADAPTING)
    with console.live() as line:
        run.on_line = telling(line)
        run.train()
    run.take_best()
    after = adapting.bits_per_byte()
    console.say(f"now it takes {after:.2f}")
    facts = {
        "adapting_epochs": dose.epochs,
        "adapting_seconds": round(run.meter.seconds, 3),
        "bits_per_byte_adapted": after,
    } | met
    with sealed_directory(place) as folder:
        adapting.write_model(folder)
        (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    return facts


@dataclass(frozen=True, slots=True)
class _Trained:
    """The data, the classifier, its run, what base and baseline say of the test texts.

    `facts` are those of what came before the labels and beside them.
    """

    found: Any
    training: Any
    run: Any
    before: Any
    baseline: Any
    facts: dict[str, Any]


def _finish(
    config: FinetuneClassify, trained: _Trained, labeled: Artifact, draft: Draft, began: float
) -> Artifact:
    """Judge the best epoch on the test texts, beside others, and lay out the model folder."""
    from llmctl.evals.classification import classify_report, fit_temperature
    from llmctl.evals.classifier_report import ClassifierPortrait, write_classifier_report
    from llmctl.report import lineage

    found, training, run = trained.found, trained.training, trained.run
    run.take_best()
    training.finish()
    temperature = fit_temperature(*training.validation_logits())
    texts = [one.text for one in found.splits["test"]]
    logits = training.logits(texts)
    judged = classify_report(
        logits, _labels(found), found.classes, texts, temperature=temperature, seed=config.seed
    )
    training.temper(temperature)
    training.write_model(draft.path)
    _write_predictions(draft.path / PREDICTIONS, found, logits / temperature)
    others = _others(config, trained, logits)
    facts = _facts(trained, labeled, judged, others, time.monotonic() - began)
    _say(judged, others)
    portrait = ClassifierPortrait(
        title=f"models/{draft.name}",
        summary=f"accuracy {facts['accuracy']:.1%}, macro-F1 {facts['macro_f1']:.3f}"
        f" on {judged.texts:,} texts that it never saw",
        found=judged,
        others=others,
        remarks=found.remarks,
        facts=facts,
        config=identity(config),
        lineage=lineage(f"models/{draft.name}", draft.plan["inputs"]),
        metrics=run.journal.rows(),
    )
    write_classifier_report(draft.path, portrait)
    return draft.finish(
        facts=facts,
        sort="classifier",
        device=str(training.tuning.machine.device),
        scaffold=[
            *(draft.path / name for name in (ADAPTED, ADAPTING, MIXED)),
            *run.scaffold(goes_on=False),
        ],
    )


def _labels(found: Any) -> Any:
    import numpy as np

    return np.array([one.label for one in found.splits["test"]])


def _others(config: FinetuneClassify, trained: _Trained, logits: Any) -> list[Any]:
    """The base model before tuning, and the baseline, on the same texts."""
    from llmctl.evals.baseline import BASELINE
    from llmctl.evals.classifier_report import contender

    labels = _labels(trained.found)
    predictions = {
        BEFORE: trained.before.argmax(axis=1),
        BASELINE: trained.baseline,
    }
    return [
        contender(name, labels, one, logits.argmax(axis=1), seed=config.seed)
        for name, one in predictions.items()
    ]


def _facts(
    trained: _Trained, labeled: Artifact, judged: Any, others: list[Any], seconds: float
) -> dict[str, Any]:
    from llmctl.evals.baseline import BASELINE

    training, run = trained.training, trained.run
    scores = {other.name: other.scores for other in others}
    per_epoch = training.tuning.batches.steps_per_epoch
    return judged.facts() | {
        **trained.facts,
        "baseline_accuracy": scores[BASELINE].accuracy,
        "baseline_macro_f1": scores[BASELINE].macro_f1,
        "base_accuracy": scores[BEFORE].accuracy,
        "base_macro_f1": scores[BEFORE].macro_f1,
        "text_column": labeled.facts["text_column"],
        "label_column": labeled.facts["label_column"],
        "train_examples": len(trained.found.splits["train"]),
        "validation_examples": len(trained.found.splits["validation"]),
        "classes": len(trained.found.classes),
        "duplicates_dropped": labeled.facts["duplicates_dropped"],
        "texts_cut": training.cut,
        "parameters": sum(one.numel() for one in training.model.parameters()),
        "trained_parameters": training.tuning.trained_parameters,
        "steps": training.tuning.trainer.progress.step,
        "best_epoch": run.best_step / per_epoch,
        "train_seconds": round(run.meter.seconds, 3),
        "seconds": round(seconds, 3),
        "resumed_from": run.resumed_from,
    }


def _write_predictions(path: Path, found: Any, logits: Any) -> None:
    from llmctl.evals.classification import softmax

    rows = zip(found.splits["test"], softmax(logits), strict=True)
    lines = [
        json.dumps(
            {
                "id": one.id,
                "label": found.classes[one.label],
                "predicted": found.classes[int(shares.argmax())],
                "probability": round(float(shares.max()), 6),
            },
            ensure_ascii=False,
        )
        for one, shares in rows
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _say(judged: Any, others: list[Any]) -> None:
    from llmctl.evals.bootstrap import doubt
    from llmctl.evals.classifier_report import comparison

    table = comparison(judged.scores, others)
    console.table("on texts that it never saw", table.columns, table.rows)
    shown = judged.rows[:MOST_CLASSES_SHOWN]
    rows = [
        (one.name, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", f"{one.texts:,}")
        for one in shown
    ]
    console.table("", ("class", "precision", "recall", "F1", "texts"), rows)
    if len(judged.rows) > len(shown):
        console.note(f"and {len(judged.rows) - len(shown)} classes more: see report.html")
    low, high = judged.intervals["accuracy"].low, judged.intervals["accuracy"].high
    console.note(
        f"accuracy lies between {low:.1%} and {high:.1%} (95 %);"
        f" calibration error {judged.calibration_error:.3f}, tempered by {judged.temperature:.2f}"
    )
    if told := doubt(judged.texts):
        console.warn(told)
