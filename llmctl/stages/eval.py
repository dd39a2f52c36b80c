"""A model and labelled data -> how good it is, and how much better than another one."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.config import dry_run_knob, force_knob, identity, knob, name_knob, parse_count
from llmctl.console import console
from llmctl.errors import ConfigError, DataError, WorkspaceError

if TYPE_CHECKING:
    from llmctl.workspace import Artifact, Draft, Input, ModelSource, Workspace

ANSWERS = "answers.jsonl"
SPLITS = ("train", "validation", "test")
# What labelled data of the workspace knows of itself, and a report tells.
KNOWN = ("text_column", "label_column", "duplicates_dropped")


@dataclass(frozen=True, slots=True)
class _Data:
    """What models are scored on: a file, or a split of labelled data in the workspace."""

    input: Input
    label: str
    labeled: Artifact | None = None
    split: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eval:
    """Score a model on labelled data, beside another model."""

    model: str | None = knob(
        None, help="A NAME, folder or hub id; the newest that fits by default", panel="Model",
        metavar="NAME|DIR",
    )  # fmt: skip
    data: str = knob(
        help="A file, or labelled data of the workspace: NAME:test", panel="Input",
        metavar="FILE|NAME:SPLIT",
    )  # fmt: skip
    compare: str | None = knob(
        None, help="Set another model beside it, such as its base", panel="Model",
        metavar="NAME|DIR",
    )  # fmt: skip
    text_column: str | None = knob(None, help="The texts; found by default", panel="Input")
    label_column: str | None = knob(None, help="Their classes; found by default", panel="Input")
    prompt: str | None = knob(None, help="The question as a template", panel="Input")
    response: str | None = knob(None, help="The answer as a template", panel="Input")
    limit: int | None = knob(
        None, help="Score so many examples, the first", panel="Input", parse=parse_count
    )
    seed: int = knob(0, help="Of the resampling", panel="Report", rare=True)
    device: str = knob("auto", help="auto, cpu, cuda or mps", panel="Machine", rare=True)
    name: str | None = name_knob("The report; the names of model and data by default")
    force: bool = force_knob()
    dry_run: bool = dry_run_knob()


def run(config: Eval, workspace: Workspace) -> Artifact | dict[str, Any]:
    """Make `reports/NAME`: a classifier's scores, or those of a model's answers.

    >>> run(Eval(model="spam", data="spam:test"), workspace).facts["macro_f1"]
    0.97
    """
    from llmctl.model.classifier_folder import is_classifier

    began = time.monotonic()
    if config.limit is not None and config.limit < 1:
        raise ConfigError(f"`--limit {config.limit}` is not at least 1")
    data = _data(config, workspace)
    sources = _models(config, workspace, data)
    name = config.name or "-vs-".join(_short(one.label) for one in sources) + f"-on-{data.label}"
    settings: dict[str, Any] = {
        "config": identity(config) | _resolved(config, data, sources),
        "inputs": [*(one.input for one in sources), data.input],
    }
    if config.dry_run:
        workspace.check_name(name)
        plan = {"kind": "report", "name": name, "models": [one.label for one in sources]}
        console.say(f"would make reports/{name}")
        return {"plan": plan}
    made = None if config.force else workspace.made("report", name, **settings)
    if made:
        console.already_made(made)
        return made
    judge = _judge_classes if is_classifier(sources[0].path) else _judge_answers
    with workspace.draft("report", name, **settings, force=config.force) as draft:
        facts = judge(config, data, sources, draft)
        facts["seconds"] = round(time.monotonic() - began, 3)
        artifact = draft.finish(facts=facts)
    console.made(artifact)
    console.next(f"open {artifact.path / 'report.html'}")
    return artifact


def _resolved(config: Eval, data: _Data, sources: list[ModelSource]) -> dict[str, Any]:
    """What was asked of what, however the user named it."""
    return {
        "model": sources[0].reference,
        "compare": sources[1].reference if config.compare is not None else None,
        "data": f"{data.labeled.name}:{data.split}" if data.labeled is not None else config.data,
    }


def _short(label: str) -> str:
    return label.rpartition("/")[2].replace("@", "-")


def _data(config: Eval, workspace: Workspace) -> _Data:
    """The file that is there, else the labelled data of that name."""
    from llmctl.workspace import outside

    name, _, split = config.data.partition(":")
    # What looks like a path is a file that is missing, not a name.
    is_path = "/" in name or ("." in name and not workspace.has("labeled", name))
    if Path(config.data).exists() or is_path:
        found = outside(Path(config.data))
        return _Data(found, found.name)
    split = split or "test"
    if split not in SPLITS:
        raise ConfigError(f"`{split}` is no split", hint=f"one of {', '.join(SPLITS)}")
    labeled = workspace.take("labeled", name)
    return _Data(labeled.as_input(), f"{name}-{split}", labeled, split)


def _models(config: Eval, workspace: Workspace, data: _Data) -> list[ModelSource]:
    """The model that is scored, by default the newest that fits, and the one beside it."""
    reference = config.model
    if reference is None and data.labeled is not None:
        reference = _newest_fitting(workspace, data.labeled)
    elif reference is None:
        reference = _newest_asked(config, workspace)
    sources = [workspace.model_source(reference)]
    if config.model is None:
        console.say(f"scoring {sources[0].label}")
    if data.labeled is not None and not _fits(sources[0].path, data.labeled):
        raise _unfit(workspace, sources[0], data.labeled)
    if config.compare is not None:
        sources.append(workspace.model_source(config.compare))
        _check_pair(*sources)
    return sources


def _newest_fitting(workspace: Workspace, labeled: Artifact) -> str:
    """The newest model that labelled data are for; one that was taught to answer comes first."""
    fitting = _fitting(workspace, labeled)
    if not fitting:
        raise WorkspaceError(
            f"there is no model in {workspace.root} that {labeled.label} could be asked of",
            hint=_maker(labeled),
        )
    return ([one for one in fitting if one.manifest.sort == "chat-lm"] or fitting)[-1].name


def _newest_asked(config: Eval, workspace: Workspace) -> str | None:
    """The newest model that a file could be asked of, those that were tuned first; None without."""
    from llmctl.model.classifier_folder import class_names, is_classifier

    verdicts: dict[Any, bool] = {}
    models = reversed(workspace.artifacts("model"))
    for one in sorted(models, key=lambda model: model.manifest.sort == "causal-lm"):
        classes = class_names(one.path) if is_classifier(one.path) else None
        if classes not in verdicts:
            verdicts[classes] = _can_be_asked(config, classes)
        if verdicts[classes]:
            return one.name
    return None


def _can_be_asked(config: Eval, classes: tuple[str, ...] | None) -> bool:
    """Whether a file holds some of these classes, or without them answers."""
    try:
        if classes is None:
            _read_answers(config)
        else:
            _read_classes(config, classes)
    except DataError:
        return False
    return True


def _fitting(workspace: Workspace, labeled: Artifact) -> list[Artifact]:
    return [one for one in workspace.artifacts("model") if _fits(one.path, labeled)]


def _fits(model: Path, labeled: Artifact) -> bool:
    """Whether a model can be asked what labelled data hold: their very classes, or answers."""
    from llmctl.data.labeled.artifact import labeled_kind
    from llmctl.model.classifier_folder import class_names, is_classifier

    if labeled_kind(labeled.path) == "conversations":
        return not is_classifier(model)
    return is_classifier(model) and class_names(model) == tuple(labeled.facts["classes"])


def _unfit(workspace: Workspace, source: ModelSource, labeled: Artifact) -> WorkspaceError:
    from llmctl.data.labeled.artifact import labeled_kind
    from llmctl.model.classifier_folder import is_classifier

    held = labeled_kind(labeled.path)
    what = "a classifier" if is_classifier(source.path) else "a language model"
    if held == "classes" and is_classifier(source.path):
        held = "other classes"
    names = ", ".join(f"`{one.name}`" for one in _fitting(workspace, labeled))
    return WorkspaceError(
        f"{source.label} is {what}, and {labeled.label} holds {held}",
        hint=f"models that fit: {names}" if names else _maker(labeled),
    )


def _maker(labeled: Artifact) -> str:
    from llmctl.data.labeled.artifact import labeled_kind

    verb = "classify" if labeled_kind(labeled.path) == "classes" else "instruct"
    return f"make one with `llmctl finetune {verb} --data {labeled.name}`"


def _check_pair(model: ModelSource, other: ModelSource) -> None:
    """Refuse to set what gives answers beside a classifier, or that beside one of other classes."""
    from llmctl.model.classifier_folder import class_names, is_classifier

    if not is_classifier(model.path):
        if is_classifier(other.path):
            raise WorkspaceError(
                f"{other.label} is a classifier, which gives no answers to compare",
                hint="compare with a language model, such as the one that was tuned",
            )
        return
    if is_classifier(other.path) and class_names(model.path) != class_names(other.path):
        raise WorkspaceError(
            f"{other.label} is a classifier of other classes than {model.label}",
            hint="compare classifiers that were made of the same labels",
        )


def _judge_classes(
    config: Eval, data: _Data, sources: list[ModelSource], draft: Draft
) -> dict[str, Any]:
    """A classifier's report; beside it another model, and the baseline."""
    import numpy as np

    from llmctl.evals.baseline import BASELINE, Baseline
    from llmctl.evals.bootstrap import doubt
    from llmctl.evals.classification import classify_report
    from llmctl.evals.classifier_report import (
        ClassifierPortrait,
        comparison,
        contender,
        write_classifier_report,
    )
    from llmctl.infer.classifier_engine import ClassifierEngine
    from llmctl.model.classifier import told_cut
    from llmctl.report import lineage

    engine = ClassifierEngine.open(sources[0].path, device=config.device)
    engines = [engine, *(_beside(config, one, engine.classes) for one in sources[1:])]
    test, learnt = _examples(config, data, engine.classes)
    for remark in test.remarks:
        console.note(remark)
    texts = [one.text for one in test.examples]
    labels = np.array([one.label for one in test.examples])
    with console.status(f"classifying {len(texts):,} texts"):
        logits = [engine.logits(texts) for engine in engines]
    if engine.cut:
        console.warn(told_cut(engine.cut, len(texts), engine.model.shape.context))
    found = classify_report(logits[0], labels, engine.classes, texts, seed=config.seed)
    predictions = {
        source.label: one.argmax(axis=1)
        for source, one in zip(sources[1:], logits[1:], strict=True)
    }
    if learnt:
        with console.status("training the baseline on the texts that the model learnt from"):
            baseline = Baseline(learnt[0], learnt[1], len(engine.classes))
            predictions[BASELINE] = baseline.predictions(texts)
    others = [
        contender(name, labels, one, logits[0].argmax(axis=1), seed=config.seed)
        for name, one in predictions.items()
    ]
    table = comparison(found.scores, others)
    console.table("", table.columns, table.rows)
    if told := doubt(len(texts)):
        console.warn(told)
    facts = found.facts() | test.facts
    facts |= {"classes": len(found.classes), "texts_cut": engine.cut}
    facts |= _told(others)
    portrait = ClassifierPortrait(
        title=f"reports/{draft.name}",
        summary=f"accuracy {found.scores.accuracy:.1%}, macro-F1 {found.scores.macro_f1:.3f}"
        f" on {found.texts:,} texts",
        found=found,
        others=others,
        remarks=test.remarks,
        facts=facts,
        config=identity(config),
        lineage=lineage(f"reports/{draft.name}", draft.plan["inputs"]),
    )
    write_classifier_report(draft.path, portrait)
    return facts


def _beside(config: Eval, source: ModelSource, classes: tuple[str, ...]) -> Any:
    """What is set beside a classifier: another one, or a language model that was not tuned."""
    from llmctl.infer.classifier_engine import ClassifierEngine
    from llmctl.infer.zero_shot import ZeroShot
    from llmctl.model.classifier_folder import is_classifier

    if is_classifier(source.path):
        return ClassifierEngine.open(source.path, device=config.device)
    console.note(
        f"{source.label} has no head over classes: it is asked which name of a class a text makes"
        " likelier"
    )
    return ZeroShot.open(source.path, classes, device=config.device)


def _told(others: list[Any]) -> dict[str, Any]:
    """The figures of the baseline, and of another model, as facts."""
    from llmctl.evals.baseline import BASELINE
    from llmctl.evals.bootstrap import gain_facts

    facts: dict[str, Any] = {}
    for other in others:
        scores = other.scores
        is_baseline = other.name == BASELINE
        prefix = "baseline" if is_baseline else "compared"
        facts |= {f"{prefix}_accuracy": scores.accuracy, f"{prefix}_macro_f1": scores.macro_f1}
        if not is_baseline:
            facts |= gain_facts(other.gain)
    return facts


def _examples(config: Eval, data: _Data, classes: tuple[str, ...]) -> tuple[Any, Any]:
    """The texts to judge by; for held-out ones of the workspace what was learnt from, too."""
    from llmctl.data.labeled.artifact import read_classes_artifact
    from llmctl.data.labeled.classes import LabelledTexts

    if data.labeled is None:
        test = _read_classes(config, classes)
        return test._replace(examples=test.examples[: config.limit]), None
    found = read_classes_artifact(data.labeled.path)
    train, validation = found.splits["train"], found.splits["validation"]
    facts = {key: found.facts[key] for key in KNOWN} | {"train_examples": len(train)}
    test = LabelledTexts(found.splits[data.split][: config.limit], facts, ())
    return test, (train, validation) if data.split == "test" else None


def _read_classes(config: Eval, classes: tuple[str, ...]) -> Any:
    from llmctl.data.labeled.classes import read_test

    columns = {"text_column": config.text_column, "label_column": config.label_column}
    return read_test(Path(config.data), classes, **columns)


def _judge_answers(
    config: Eval, data: _Data, sources: list[ModelSource], draft: Draft
) -> dict[str, Any]:
    """The scores of a model's answers; those of another model are set beside them."""
    from llmctl.evals.bootstrap import doubt
    from llmctl.evals.chat_report import ChatPortrait, answer, told_scores, write_chat_report
    from llmctl.report import lineage

    conversations, remarks = _conversations(config, data)
    for remark in remarks:
        console.note(remark)
    with console.status(f"answering {len(conversations):,} questions"):
        answered = answer(
            {one.label: one.path for one in sources}, conversations, device=config.device
        )
    lines = [json.dumps(one, ensure_ascii=False) for one in answered.rows()]
    (draft.path / ANSWERS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = told_scores(answered)
    console.table("", table.columns, table.rows)
    if told := doubt(len(conversations)):
        console.warn(told)
    facts = answered.facts(beside="compared")
    portrait = ChatPortrait(
        title=f"reports/{draft.name}",
        summary=f"{len(conversations):,} questions",
        answered=answered,
        facts=facts,
        config=identity(config),
        lineage=lineage(f"reports/{draft.name}", draft.plan["inputs"]),
    )
    write_chat_report(draft.path, portrait)
    return facts


def _conversations(config: Eval, data: _Data) -> tuple[Any, Any]:
    from llmctl.data.labeled.artifact import read_dialogues

    if data.labeled is None:
        conversations, remarks = _read_answers(config)
        return conversations[: config.limit], remarks
    return read_dialogues(data.labeled.path, data.split)[: config.limit], ()


def _read_answers(config: Eval) -> Any:
    from llmctl.data.labeled.conversations import read_all

    return read_all(Path(config.data), prompt=config.prompt, response=config.response)
