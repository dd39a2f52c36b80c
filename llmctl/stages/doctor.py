"""This machine and this installation -> whether they are ready, and whether they compute right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmctl.config import knob
from llmctl.console import console
from llmctl.errors import TrainingError

if TYPE_CHECKING:
    from llmctl.evals.finding import Finding
    from llmctl.evals.numerics import Check
    from llmctl.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Look whether this machine is ready: versions, devices, speed, disk, clock."""

    numerics: bool = knob(
        False, help="Compute the same in two ways, and fail where they differ", panel="Machine"
    )
    device: str = knob(
        "auto", help="For `--numerics`: auto, cpu, cuda or mps", panel="Machine", rare=True
    )


def run(config: Doctor, workspace: Workspace) -> dict[str, Any]:
    """Tell what was found; TrainingError (exit 6) where a check of `--numerics` does not hold.

    >>> run(Doctor(), workspace)["facts"]["warnings"]
    []
    """
    if config.numerics:
        return _computed(config)
    from llmctl.evals.finding import looked
    from llmctl.evals.hardware import hardware_looks
    from llmctl.evals.software import software_looks

    with console.status("looking at this machine"):
        found = list(looked(software_looks() | hardware_looks(workspace.root)))
    _show(found)
    return {"facts": _facts(found)}


def _show(found: list[Finding]) -> None:
    warnings = [one for one in found if one.advice]
    rows = [(one.name, one.verdict, one.value) for one in found]
    console.table("", ("what", "verdict", "value"), rows, is_data=True)
    for one in warnings:
        console.warn(f"{one.name}: {one.advice}")
    if not warnings:
        console.say("all is well")
    console.next("llmctl doctor --numerics")


def _facts(found: Iterable[Finding]) -> dict[str, Any]:
    lines = {
        one.name: {"value": one.value, "verdict": one.verdict, "advice": one.advice, **one.facts}
        for one in found
    }
    return {"found": lines, "warnings": [name for name, one in lines.items() if one["advice"]]}


def _computed(config: Doctor) -> dict[str, Any]:
    from llmctl.evals.numerics import checks
    from llmctl.model.device import pick_device

    return _judged(checks(pick_device(config.device)))


def _judged(all_checks: Iterable[tuple[str, Callable[[], Check]]]) -> dict[str, Any]:
    """The facts of all checks, which all hold."""
    done: list[Check] = []
    for name, check in all_checks:
        with console.status(name):
            done.append(check())
    rows = [
        (one.name, "ok" if one.holds else "BROKEN", f"{one.difference:.1e}", f"{one.tolerance:.1e}")
        for one in done
    ]
    columns = ("what", "verdict", "difference", "tolerance")
    console.table("", columns, rows, is_data=True)
    for why in dict.fromkeys(one.why for one in done if one.why):
        console.note(f"{next(one.tolerance for one in done if one.why == why):.1e}: {why}")
    broken = [one for one in done if not one.holds]
    if broken:
        raise TrainingError(
            f"{len(broken)} of {len(done)} checks do not hold: {'; '.join(map(_told, broken))}",
            hint="do not trust what this machine computes; try `--device cpu`, another torch,"
            " and report it with the output of `llmctl doctor --json`",
        )
    return {"facts": {"checks": {one.name: _fact(one) for one in done}}}


def _told(check: Check) -> str:
    return f"{check.name} ({check.fault or f'apart by {check.difference:.1e}'})"


def _fact(check: Check) -> dict[str, Any]:
    return {"difference": check.difference, "tolerance": check.tolerance, "why": check.why}
