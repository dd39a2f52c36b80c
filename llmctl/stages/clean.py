"""Corpora -> a corpus without junk, copies, personal data and what a model is tested on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from llmctl.config import dry_run_knob, force_knob, identity, knob, name_knob
from llmctl.console import console
from llmctl.errors import ConfigError, DataError
from llmctl.figures import count, size

if TYPE_CHECKING:
    from llmctl.data.cleaning import Cleaning
    from llmctl.data.funnel import Funnel
    from llmctl.data.screening import Bundle, Recipe
    from llmctl.workspace import Artifact, Input, Workspace

# Below this much text, starting processes costs more than they save.
ALONE_BYTES = 8 * 2**20
COPIES = ("exact copies", "near copies")
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
        (), help="Keep this language; every language by default", panel="Text", metavar="CODE"
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
    _refuse_itself(name, [*corpora, *known])
    recipe = _recipe(config)
    settings: dict[str, Any] = {
        "config": identity(config),
        "inputs": [*(one.as_input() for one in (*corpora, *known)), _as_input(recipe)],
    }
    parts = bundles([one.path for one in corpora], [one.path for one in known])
    if config.dry_run:
        return {"plan": {"kind": "corpus", "name": name}}
    made = None if config.force else workspace.made("corpus", name, **settings)
    if made:
        console.already_made(made)
        return made
    with (
        workspace.draft("corpus", name, **settings, force=config.force) as draft,
        start(config.engine, _workers(config, parts)) as perform,
    ):
        cleaning = Cleaning(
            target=draft.path,
            bundles=parts,
            recipe=recipe,
            perform=perform,
            is_exact=config.exact,
        )
        funnel = _clean(cleaning)
        rules = [*recipe.thresholds, *COPIES]
        artifact = draft.finish(facts=_facts(funnel, rules, recipe))
    _report(artifact, funnel, rules)
    return artifact


def _taken(workspace: Workspace, names: Sequence[str]) -> list[Artifact]:
    return [workspace.take("corpus", name) for name in names]


def _refuse_itself(name: str, inputs: Sequence[Artifact]) -> None:
    if name in {one.name for one in inputs}:
        raise ConfigError(
            f"corpora/{name} cannot be cleaned into itself", hint="choose another `--name`"
        )


def _recipe(config: Clean) -> Recipe:
    from llmctl.data.chain import resolve
    from llmctl.data.screening import Recipe

    languages = [f"language.keep={','.join(config.language)}"] if config.language else []
    return Recipe(
        thresholds=resolve(config.rule, config.without, [*languages, *config.set_]),
        similarity=config.similarity,
        keep_dropped=config.keep_dropped,
    )


def _as_input(recipe: Recipe) -> Input:
    """The thresholds as an input: a rule that has changed makes another corpus."""
    from llmctl.workspace import Input

    told = json.dumps(recipe.thresholds, sort_keys=True)
    return Input("rules", "thresholds", sha256(told.encode()).hexdigest())


def _workers(config: Clean, parts: Sequence[Bundle]) -> int:
    if config.workers is None and sum(part.bytes for part in parts) < ALONE_BYTES:
        return 1
    return config.workers or os.cpu_count() or 1


def _clean(cleaning: Cleaning) -> Funnel:
    """All four steps; the funnel of the whole."""
    from llmctl.data.funnel import Funnel
    from llmctl.data.winnowing import write_indexes

    total = sum(bundle.bytes for bundle in cleaning.bundles)
    with console.progress("applying the rules", total=total, unit="B") as bar:
        for bundle, _ in cleaning.signatures(cleaning.bundles):
            bar.advance(bundle.bytes)
    with console.status("looking for copies"):
        for _ in (*cleaning.bands(), *cleaning.clusters()):
            pass
    funnel, found = Funnel(), []
    with console.progress("writing", total=total, unit="B") as bar:
        for bundle, winnowed in cleaning.filter():
            found.append(winnowed)
            funnel.add(winnowed.funnel)
            bar.advance(bundle.bytes)
    if not funnel.documents:
        first = funnel.reasons.most_common(1)
        raise DataError(
            f"nothing is left of {funnel.documents_in:,} documents",
            hint=f"most went by `{first[0][0]}`: `--without` leaves a rule out" if first else None,
        )
    write_indexes(cleaning.target, found)
    shutil.rmtree(cleaning.target / WORK)
    return funnel


def _facts(funnel: Funnel, rules: Sequence[str], recipe: Recipe) -> dict[str, Any]:
    return {
        "documents": funnel.documents,
        "bytes": funnel.bytes,
        "documents_in": funnel.documents_in,
        "bytes_in": funnel.bytes_in,
        "dropped": dict(funnel.dropped),
        "reasons": dict(funnel.reasons.most_common()),
        "changes": dict(funnel.changes),
        "funnel": [step._asdict() for step in funnel.steps(rules)],
        "cases": funnel.cases,
        "thresholds": recipe.thresholds,
    }


def _report(artifact: Artifact, funnel: Funnel, rules: Sequence[str]) -> None:
    rows: list[Sequence[Any]] = [("in", f"{funnel.documents_in:,}", size(funnel.bytes_in), "", "")]
    for step in funnel.steps(rules):
        share = f"{step.documents / funnel.documents_in:.1%}"
        rows.append((step.rule, f"-{step.documents:,}", f"-{size(step.bytes)}", share, ""))
    rows.append(("kept", f"{funnel.documents:,}", size(funnel.bytes), "", ""))
    console.table("", ("rule", "documents", "text", "share", "edited"), rows)
    console.made(artifact, f"{count(funnel.documents)} documents, {size(funnel.bytes)}")
    console.next("llmctl tokenize")
