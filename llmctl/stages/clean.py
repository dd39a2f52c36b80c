"""Corpora -> a corpus without junk, copies, personal data and what a model is tested on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmctl.config import dry_run_knob, force_knob, identity, knob, name_knob
from llmctl.console import console
from llmctl.errors import ConfigError, DataError, WorkspaceError
from llmctl.figures import amount, count, duration, size

if TYPE_CHECKING:
    from llmctl.data.cleaning import Cleaning
    from llmctl.data.engines import Perform
    from llmctl.data.funnel import Funnel
    from llmctl.data.quality_model import Scorer
    from llmctl.data.screening import Bundle, Recipe
    from llmctl.workspace import Artifact, Draft, Input, Workspace

# Below this much text, starting processes costs more than they save.
ALONE_BYTES = 8 * 2**20
LANGUAGE, QUALITY, CONTAMINATED = "language", "quality", "contaminated"
COPIES = ("exact copies", "near copies")
# Above this share of copies something is wrong, it is not the web.
MOST_COPIES = 0.6
# So many documents of the web hold some.
MANY = 200
# Above this share of the text one rule is not for such text, as Gopher's longest page for novels.
MOST_LOST = 0.5
SAMPLE_DOCUMENTS, EXAMPLES = 1000, 5
WORK = "work"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """Clean corpora: drop junk and copies, hide personal data, say what went and why."""

    from_: tuple[str, ...] = knob(
        (), help="The corpora; the newest by default", panel="Input", metavar="CORPUS"
    )
    against: tuple[str, ...] = knob(
        (), help="Drop also what these hold already", panel="Input", metavar="CORPUS"
    )
    reference: tuple[str, ...] = knob(
        (),
        help="Keep what reads like these, by a classifier trained for it",
        panel="Input",
        metavar="CORPUS",
    )
    quality_model: str | None = knob(
        None,
        help="Keep what this classifier, made by finetune classify, takes for good text",
        panel="Input",
        metavar="NAME|DIR",
    )
    quality_class: str = knob(
        "good",
        help="The class of good text among those of --quality-model",
        panel="Input",
        rare=True,
    )
    rule: tuple[str, ...] = knob(
        (), help="Apply these rules; all of them by default", panel="Text", metavar="RULE"
    )
    without: tuple[str, ...] = knob((), help="Leave a rule out", panel="Text", metavar="RULE")
    set_: tuple[str, ...] = knob(
        (),
        help="Set a threshold, as in gopher.fewest_words=30",
        panel="Text",
        metavar="RULE.KEY=VALUE",
    )
    language: tuple[str, ...] = knob(
        (),
        help="Keep this language, or `all`; by default those of a twentieth of the text or more",
        panel="Text",
        metavar="CODE",
    )
    decontaminate: tuple[Path, ...] = knob(
        (), help="Drop what gives away an example of this file", panel="Text", metavar="FILE"
    )
    exact: bool = knob(True, help="Drop texts that came before", panel="Text")
    similarity: float = knob(
        0.8, help="Drop what shares so much with an earlier text; 0 drops nothing", panel="Text"
    )
    keep_dropped: bool = knob(
        False, help="Keep what was dropped, with the reason, in dropped/", panel="Output"
    )
    workers: int | None = knob(
        None, help="Processes to work with; as many as cores", panel="Machine", identity=False
    )
    engine: Literal["local", "ray"] = knob(
        "local", help="Who does the work: processes here, or Ray", panel="Machine", identity=False
    )
    step: Literal["signatures", "bands", "clusters", "filter"] | None = knob(
        None,
        help="Do this step alone, after those before it",
        panel="Machine",
        identity=False,
        rare=True,
    )
    shard: str | None = knob(
        None,
        help="Do this share of the work, as in a Slurm array; 0/4 is the first of four",
        panel="Machine",
        metavar="I/N",
        identity=False,
    )
    merge: bool = knob(
        False,
        help="Make the corpus of what all shards did",
        panel="Machine",
        identity=False,
        rare=True,
    )
    name: str | None = name_knob("The corpus; the first one's name with -clean by default")
    force: bool = force_knob()
    dry_run: bool = dry_run_knob()


def run(config: Clean, workspace: Workspace) -> Artifact | dict[str, Any]:
    """Take every document of the corpora through the rules into `corpora/NAME`.

    >>> run(Clean(from_=("web",)), workspace).facts["dropped"]
    {'gopher': 120, 'exact copies': 31, 'near copies': 18}
    """
    from llmctl.data.cleaning import Cleaning
    from llmctl.data.engines import start
    from llmctl.data.screening import bundles

    corpora = _taken(workspace, config.from_) or [workspace.take("corpus", None)]
    known = _taken(workspace, config.against)
    name = config.name or f"{corpora[0].name}-clean"
    reference = _taken(workspace, config.reference)
    _refuse_itself(name, [*corpora, *known, *reference])
    judge, judges = _judge(config, workspace)
    parts = bundles([one.path for one in corpora], [one.path for one in known])
    recipe = replace(_recipe(config, parts), scorer=judge)
    taken = [one.as_input() for one in (*corpora, *known, *reference)]
    settings: dict[str, Any] = {
        "config": identity(config),
        "inputs": [*taken, *judges, *_inputs(recipe)],
    }
    if config.dry_run:
        workspace.check_name(name)
        return {"plan": {"kind": "corpus", "name": name, **_plan(config, recipe, parts)}}
    made = None if config.force else workspace.made("corpus", name, **settings)
    if made:
        console.already_made(made)
        return made
    workers = start(config.engine, _workers(config, parts))
    shape: dict[str, Any] = {"bundles": parts, "recipe": recipe, "is_exact": config.exact}
    samples = [[one.path for one in reference], [one.path for one in corpora]]

    def begun(target: Path, perform: Perform) -> Cleaning:
        return Cleaning(target=target, perform=perform, **_taught(shape, target, samples))

    if config.shard or config.step not in (None, "filter"):
        step, index, of = _part(config)
        share = workspace.share("corpus", name, part=f"{step}-{index}-of-{of}", **settings)
        with share as target, workers as perform:
            return _one_step(begun(target, perform), step, name, parts[index::of])
    with (
        workspace.draft("corpus", name, **settings, force=config.force) as draft,
        workers as perform,
    ):
        cleaning = begun(draft.path, perform)
        if config.merge and cleaning.missing():
            raise _missing(cleaning)
        if config.step:
            _refuse_early(cleaning, config.step)
        funnel, facts = _clean(cleaning, draft)
        if judge:
            facts[QUALITY] = {"model": config.quality_model, "class": config.quality_class}
        (draft.path / "funnel.png").write_bytes(_picture(funnel, recipe))
        artifact = draft.finish(facts=_facts(funnel, recipe) | facts, scaffold=cleaning.scaffold())
    _report(artifact, funnel, recipe)
    return artifact


def _judge(config: Clean, workspace: Workspace) -> tuple[Scorer | None, list[Input]]:
    """The classifier of `--quality-model`, and itself as an input; nothing where none is asked."""
    if config.quality_model is None:
        return None, []
    from llmctl.infer.likeness import Likeness
    from llmctl.model.classifier_folder import class_names

    if config.reference:
        raise ConfigError(
            "`--quality-model` and `--reference` are two ways to the same",
            hint="leave one of them out",
        )
    source = workspace.model_source(config.quality_model, sorts=("classifier",))
    names = class_names(source.path)
    if config.quality_class not in names:
        raise ConfigError(
            f"{source.label} has no class `{config.quality_class}`",
            hint=f"`--quality-class` is one of: {', '.join(names)}",
        )
    column = names.index(config.quality_class)
    return Likeness(source.path, column, source.input.digest), [source.input]


def _taught(shape: dict[str, Any], target: Path, samples: list[list[Path]]) -> dict[str, Any]:
    """The same shape, with a classifier of quality where there is a reference to learn from."""
    from llmctl.data.quality_model import train

    reference, raw = samples
    if not reference:
        return shape
    model = target / WORK / QUALITY
    if not model.exists():
        with console.status("learning what good text is like"):
            train(reference, raw, model)
    return shape | {"recipe": replace(shape["recipe"], model=model)}


def _part(config: Clean) -> tuple[str, int, int]:
    """What to do of the work: a step, and which share of how many of it."""
    step = config.step or "signatures"
    if not config.shard:
        return step, 0, 1
    index, slash, of = config.shard.partition("/")
    if not (slash and index.isdecimal() and of.isdecimal() and int(index) < int(of)):
        raise ConfigError(
            f"`--shard {config.shard}` is no share of the work",
            hint="0/4 to 3/4 are the four quarters",
        )
    if step != "signatures":
        raise ConfigError(
            f"step {step} is not done in shares", hint="`--shard` is for `--step signatures`"
        )
    return step, int(index), int(of)


def _one_step(cleaning: Cleaning, step: str, name: str, parts: Sequence[Bundle]) -> dict[str, Any]:
    """Do one step of the four, and leave the corpus unfinished."""
    from llmctl.data.cleaning import STEPS

    _refuse_early(cleaning, step)
    if step == "signatures":
        _apply_rules(cleaning, parts)
    else:
        with console.status("looking for copies"):
            for _ in cleaning.bands() if step == "bands" else cleaning.clusters():
                pass
    following = STEPS[STEPS.index(step) + 1]
    missing = len(cleaning.missing())
    if missing:
        console.next(f"the same command with --merge, once the other {missing} parts are done")
    else:
        console.next(f"the same command with --step {following}, or all the rest without --step")
    return {"step": {"name": name, "done": step, "next": following, "missing": missing}}


def _refuse_early(cleaning: Cleaning, step: str) -> None:
    before = cleaning.waits_for(step)
    if before:
        raise WorkspaceError(
            f"step {step} comes after {before}, which is not done yet",
            hint=f"`--step {before}` first, or leave out `--step` to do all of it",
        )


def _missing(cleaning: Cleaning) -> WorkspaceError:
    missing = cleaning.missing()
    numbers = ", ".join(str(bundle.number) for bundle in missing[:8])
    return WorkspaceError(
        f"{len(missing)} of {len(cleaning.bundles)} parts are not done yet: {numbers}",
        hint="run the `--shard` that is missing, or leave out `--merge` to do it here",
    )


def _plan(config: Clean, recipe: Recipe, parts: Sequence[Bundle]) -> dict[str, Any]:
    """What the rules make of a sample, and what the whole will take."""
    from time import perf_counter

    from llmctl.data.cleaning import estimate
    from llmctl.data.screening import sample

    began = perf_counter()
    funnel = sample(parts, recipe, SAMPLE_DOCUMENTS)
    seconds = perf_counter() - began
    cost = estimate(parts, recipe)
    workers = _workers(config, parts)
    whole = cost["text_bytes"] / max(1, funnel.bytes_in) * seconds / workers
    console.say(f"a sample of {funnel.documents_in:,} documents:")
    _print_funnel(funnel, recipe)
    _note_languages(config.language, funnel, recipe)
    console.say(
        f"the whole: {count(cost['documents'])} documents, about {duration(whole)} with"
        f" {workers} workers; on disk meanwhile {size(cost['work_bytes'])},"
        f" in memory {size(cost['memory_bytes'])} a worker"
    )
    return cost | {
        "seconds": round(whole, 1),
        "sample": _facts(funnel, recipe),
    }


def _taken(workspace: Workspace, names: Sequence[str]) -> list[Artifact]:
    return [workspace.take("corpus", name) for name in names]


def _refuse_itself(name: str, inputs: Sequence[Artifact]) -> None:
    if name in {one.name for one in inputs}:
        raise ConfigError(
            f"corpora/{name} cannot be cleaned into itself", hint="choose another `--name`"
        )


def _recipe(config: Clean, parts: Sequence[Bundle]) -> Recipe:
    from llmctl.data.chain import resolve
    from llmctl.data.screening import Recipe

    languages = [f"language.keep={','.join(config.language)}"] if config.language else []
    thresholds = resolve(config.rule, config.without, [*languages, *config.set_])
    if not thresholds.get(LANGUAGE, {}).get("keep", True):
        thresholds[LANGUAGE]["keep"] = _main_languages(parts, thresholds[LANGUAGE])
    return Recipe(
        thresholds=thresholds,
        similarity=config.similarity,
        keep_dropped=config.keep_dropped,
        tests=_existing(config.decontaminate),
    )


def _main_languages(parts: Sequence[Bundle], thresholds: dict[str, Any]) -> list[str]:
    """The languages of a sample of the corpora that hold more than a trace of its text."""
    from llmctl.data.language import main_languages
    from llmctl.data.screening import sampled

    texts = (
        text
        for some, _ in sampled(parts, SAMPLE_DOCUMENTS)
        for text in some.column("text").to_pylist()
    )
    limits = {key: thresholds[key] for key in ("least_confidence", "least_share")}
    return list(main_languages(texts, **limits))


def _existing(files: tuple[Path, ...]) -> tuple[Path, ...]:
    from llmctl.data.decontaminate import count_examples

    for path in files:
        if not path.is_file():
            raise ConfigError(f"there is no file {path}", hint="`--decontaminate` takes a file")
    count_examples(files)
    return tuple(path.resolve() for path in files)


def _inputs(recipe: Recipe) -> list[Input]:
    """Thresholds and test files as inputs: where one changes, so does the corpus."""
    from llmctl.durable import fingerprint
    from llmctl.workspace import Input

    told = json.dumps(recipe.thresholds, sort_keys=True)
    rules = Input("rules", "thresholds", sha256(told.encode()).hexdigest())
    tests = [Input("test", path.name, fingerprint(path)["sha256"]) for path in recipe.tests]
    return [rules, *tests]


def _workers(config: Clean, parts: Sequence[Bundle]) -> int:
    if config.workers is None and sum(part.bytes for part in parts) < ALONE_BYTES:
        return 1
    return config.workers or os.cpu_count() or 1


def _apply_rules(cleaning: Cleaning, parts: Sequence[Bundle]) -> None:
    total = sum(bundle.bytes for bundle in parts)
    with console.progress("applying the rules", total=total, unit="B") as bar:
        for bundle, _ in cleaning.signatures(parts):
            bar.advance(bundle.bytes)


def _clean(cleaning: Cleaning, draft: Draft) -> tuple[Funnel, dict[str, Any]]:
    """All four steps; the funnel of the whole, and what else there is to say."""
    from llmctl.data.funnel import Funnel
    from llmctl.data.quality_model import FILE, read_score
    from llmctl.data.winnowing import write_indexes

    _warn_of_disk(cleaning)
    _apply_rules(cleaning, cleaning.bundles)
    with console.status("looking for copies"):
        for _ in (*cleaning.bands(), *cleaning.clusters()):
            pass
    facts: dict[str, Any] = {"near_copies": cleaning.examples(EXAMPLES)}
    total = sum(bundle.bytes for bundle in cleaning.bundles)
    funnel, found = Funnel(), []
    with console.progress("writing", total=total, unit="B") as bar:
        for bundle, winnowed in cleaning.filter():
            found.append(winnowed)
            funnel.add(winnowed.funnel)
            bar.advance(bundle.bytes)
    if not funnel.documents:
        draft.discard()
        first = funnel.reasons.most_common(1)
        raise DataError(
            f"nothing is left of {funnel.documents_in:,} documents",
            hint=f"most went by `{first[0][0]}`: `--without` leaves a rule out" if first else None,
        )
    write_indexes(cleaning.target, found)
    if cleaning.recipe.model:
        facts[QUALITY] = read_score(cleaning.recipe.model)._asdict()
        shutil.copyfile(cleaning.recipe.model / FILE, cleaning.target / FILE)
    return funnel, facts


def _warn_of_disk(cleaning: Cleaning) -> None:
    from llmctl.data.cleaning import estimate

    needed = estimate(cleaning.bundles, cleaning.recipe)["work_bytes"]
    free = shutil.disk_usage(cleaning.target).free
    if needed > free:
        console.warn(f"this needs about {size(needed)} of disk, and {size(free)} are free")


def _facts(funnel: Funnel, recipe: Recipe) -> dict[str, Any]:
    return {
        "documents": funnel.documents,
        "bytes": funnel.bytes,
        "documents_in": funnel.documents_in,
        "bytes_in": funnel.bytes_in,
        "dropped": dict(funnel.dropped),
        "reasons": dict(funnel.reasons.most_common()),
        "changes": dict(funnel.changes),
        "funnel": [step._asdict() for step in funnel.steps(_names(recipe))],
        "cases": funnel.cases,
        "thresholds": recipe.thresholds,
    }


def _names(recipe: Recipe) -> list[str]:
    """The rules by name, in the order in which a document meets them."""
    return [*recipe.thresholds, QUALITY, CONTAMINATED, *COPIES]


def _left(funnel: Funnel, recipe: Recipe) -> list[tuple[str, int]]:
    """Documents left after each rule, from the whole down."""
    left = [("in", funnel.documents_in)]
    for step in funnel.steps(_names(recipe)):
        left.append((step.rule, left[-1][1] - step.documents))
    return left


def _picture(funnel: Funnel, recipe: Recipe) -> bytes:
    from llmctl.plots import funnel_chart

    return funnel_chart(_left(funnel, recipe), unit="documents")


def _print_funnel(funnel: Funnel, recipe: Recipe) -> None:
    rows: list[Sequence[Any]] = [("in", f"{funnel.documents_in:,}", f"{funnel.bytes_in:,}", "", "")]
    for step in funnel.steps(_names(recipe)):
        share = f"{step.documents / funnel.documents_in:.1%}"
        gone = step.bytes + step.trimmed_bytes
        rows.append((step.rule, f"{-step.documents:,}", f"{-gone:,}", share, step.edited_documents))
    share = f"{funnel.documents / max(1, funnel.documents_in):.1%}"
    rows.append(("kept", f"{funnel.documents:,}", f"{funnel.bytes:,}", share, ""))
    console.table("", ("rule", "documents", "bytes", "share", "edited"), rows)


def _report(artifact: Artifact, funnel: Funnel, recipe: Recipe) -> None:
    _print_funnel(funnel, recipe)
    _note_languages(artifact.manifest.config["language"], funnel, recipe)
    for copy, original, similarity in artifact.facts["near_copies"][:2]:
        console.note(f"a near copy: {copy} is {similarity:.0%} of {original}")
    for case in funnel.cases.get(f"{CONTAMINATED}: test example", []):
        console.note(f"contaminated: {case}")
    if accuracy := artifact.facts.get(QUALITY, {}).get("accuracy"):
        console.note(f"the classifier of quality is right on {accuracy:.0%} of held-out text")
    _warn_of_copies(artifact.manifest.config, funnel)
    _warn_of_loss(funnel, recipe)
    console.made(artifact, f"{amount(funnel.documents, 'documents')}, {size(funnel.bytes)}")
    console.next("llmctl tokenize")


def _note_languages(wish: Sequence[str], funnel: Funnel, recipe: Recipe) -> None:
    """That languages were chosen, where nobody asked for it and something went."""
    if funnel.dropped[LANGUAGE] and not wish:
        kept = ", ".join(recipe.thresholds[LANGUAGE]["keep"])
        console.note(f"only text in {kept} was kept: `--language all` keeps every language")


def _warn_of_copies(config: dict[str, Any], funnel: Funnel) -> None:
    """No copy at all, or hardly anything else: mostly a sign that something is wrong."""
    copies = sum(funnel.dropped[rule] for rule in COPIES)
    share = copies / max(1, copies + funnel.documents)
    is_large = funnel.documents >= MANY
    if share > MOST_COPIES:
        console.warn(f"{share:.0%} of the documents are copies: was the same text collected twice?")
    elif not copies and is_large and (config["exact"] or config["similarity"]):
        console.warn("no copies were found at all; raw web text holds some")


def _warn_of_loss(funnel: Funnel, recipe: Recipe) -> None:
    """One rule that took most of the text: mostly a sign that it was made for other text."""
    for rule in recipe.thresholds:
        share = funnel.dropped_bytes[rule] / max(1, funnel.bytes_in)
        if rule != LANGUAGE and share > MOST_LOST:
            told = [
                f"{reason.removeprefix(f'{rule}: ')} {documents:,}"
                for reason, documents in funnel.reasons.most_common()
                if reason.startswith(f"{rule}: ")
            ]
            console.warn(
                f"`{rule}` dropped {share:.0%} of the text ({', '.join(told)}): `--without {rule}`"
                f" keeps it, `--set {rule}.KEY=VALUE` moves a threshold"
            )
