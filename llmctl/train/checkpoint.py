"""A run's state on disk: saved whole, checked when read, the newest sound one found.

A checkpoint of a model that lies whole on a rank is a model folder that transformers opens, with
the optimizer's tensors beside it; of one that lies over several ranks each writes its part (see
`parts.py`). The loop's counters are JSON. safetensors and JSON only: nothing here can run code
when loaded. What is saved is copied first and written while the training goes on.
"""

import contextlib
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmctl.durable import damage, sealed_directory, unsealed
from llmctl.errors import TrainingError
from llmctl.registry import load
from llmctl.train.distributed.rows import Piece
from llmctl.train.distributed.world import ALONE, World
from llmctl.train.masters import Master
from llmctl.train.trainer import Progress, Trainer

OPTIMIZER = "optimizer.safetensors"
COUNTERS = "trainer.json"
PARTS = "shard-*.safetensors"
# What a piece is of, before the name of its master.
WEIGHTS, OPTIMIZERS = "weights", "optimizer"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Saved:
    """A sound checkpoint: its folder, the loop's counters and what the owner of the run noted."""

    path: Path
    progress: Progress
    notes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelForm:
    """How the owner of a run keeps a model: what of it, and how that goes to a folder and back."""

    state: Callable[[], Mapping[str, Tensor]]
    write: Callable[[Mapping[str, Tensor], Path], None]
    read: Callable[[Path], Mapping[str, Tensor]]


class Checkpoints:
    """The checkpoints of one run, in a folder: `step-00000100`, `step-00000200` ..."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.directory = directory
        self.keep = keep
        self._writer: threading.Thread | None = None
        self._fault: BaseException | None = None

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies, or would."""
        return self.directory / f"step-{step:08d}"

    def save(
        self, trainer: Trainer, form: ModelForm, notes: dict[str, Any], *, pinned: Iterable[int]
    ) -> None:
        """Copy the run as it stands, and begin to write; then all but some old ones are deleted.

        Waits for the save before. `wait`, or the next save, raises TrainingError where the disk
        was full; earlier checkpoints are untouched.
        """
        self.wait()
        step = trainer.progress.step
        counters = {"progress": asdict(trainer.progress), "notes": notes}
        folder = contextlib.ExitStack()
        try:
            place = None
            if trainer.world.leads:
                place = folder.enter_context(sealed_directory(self.path(step)))
            write = _prepared(trainer, form, self.path(step), place)
        except OSError as error:
            raise self._unsaved(step, error) from error
        kept = set(pinned)

        def finish() -> None:
            with folder:
                write()
                if place is not None:
                    (place / COUNTERS).write_text(json.dumps(counters, indent=1), encoding="utf-8")
            if place is not None:
                self.prune(kept)

        self._writer = threading.Thread(target=self._guarded, args=(finish, step))
        self._writer.start()

    def wait(self) -> None:
        """Until what is being saved is on disk; TrainingError where it could not be."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _guarded(self, finish: Callable[[], None], step: int) -> None:
        try:
            finish()
        except (OSError, SafetensorError) as error:
            self._fault = self._unsaved(step, error)
            self._fault.__cause__ = error
        except BaseException as error:  # the training thread raises it
            self._fault = error

    def _unsaved(self, step: int, error: Exception) -> TrainingError:
        # safetensors wraps what the system says in its own words.
        why = getattr(error, "strerror", None) or str(error).rpartition("I/O error: ")[2]
        return TrainingError(
            f"step {step:,} could not be saved: {why}",
            hint=f"free some space and run the same command again; {self._told_last()}",
        )

    def newest(self, world: World = ALONE) -> Saved | None:
        """The newest checkpoint that is sound; a damaged one is set aside, by name.

        All ranks must ask, each of which reads a share of the files.
        """
        for name in world.told_by_first([path.name for path in reversed(self._all())]):
            path = self.directory / name
            why = damage_found(path, world)
            if why is None:
                return read_saved(path)
            if world.leads:
                aside = path.with_name(f"damaged-{name}")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
                told = "checkpoint %s is damaged (%s); set aside as %s"
                logger.warning(told, path, why, aside.name)
        return None

    def prune(self, pinned: Iterable[int]) -> None:
        """Delete all but the last `keep` and the pinned steps."""
        kept = {self.path(step) for step in pinned} | set(self._all()[-self.keep :])
        for path in self._all():
            if path not in kept:
                shutil.rmtree(path)

    def _all(self) -> list[Path]:
        return sorted(path for path in self.directory.glob("step-*") if path.is_dir())

    def _told_last(self) -> str:
        last = self._all()
        return f"the last good checkpoint is {last[-1].name}" if last else "nothing was saved yet"


def damage_found(path: Path, world: World) -> str | None:
    """What is wrong with a checkpoint, as the first rank says whose share of the files is damaged.

    TrainingError where a rank does not see the folder at all.
    """
    if not path.is_dir():
        raise TrainingError(
            f"rank {world.rank} does not see {path}",
            hint="the workspace must lie on a disk that all machines share",
        )
    why = damage(path, slice(world.rank, None, world.size))
    first = world.least(world.size if why is None else world.rank)
    return None if first == world.size else world.told_by(first, why)


def read_saved(path: Path) -> Saved:
    """What a checkpoint that is known to be sound says of itself."""
    counters = json.loads((path / COUNTERS).read_text(encoding="utf-8"))
    return Saved(path, Progress(**counters["progress"]), counters["notes"])


def _prepared(
    trainer: Trainer, form: ModelForm, target: Path, place: Path | None
) -> Callable[[], None]:
    """A copy of the run's state, as what is left to do with it: to write it into `place`."""
    if _lies_in_pieces(trainer):
        # Every rank writes into the folder that the first has made.
        trainer.world.wait_for_all("the folder of a checkpoint")
        save_parts: Any = load("llmctl.train.distributed.parts:save_parts")
        return save_parts(_pieces(trainer), unsealed(target), trainer.world)
    if place is None:
        return lambda: None
    weights = {name: one.to("cpu", copy=True) for name, one in form.state().items()}
    optimizer = {name: one.cpu() for name, one in _optimizer_state(trainer)}

    def write() -> None:
        form.write(weights, place)
        save_file(optimizer, place / OPTIMIZER)

    return write


def restore(trainer: Trainer, saved: Saved, form: ModelForm) -> None:
    """Put weights, optimizer and counters of a checkpoint into a trainer.

    It may have been saved by any number of ranks, whole or in pieces.
    """
    trainer.progress = saved.progress
    if any(saved.path.glob(PARTS)):
        _load_pieces(trainer, saved.path)
        return
    trainer.masters.load(trainer.model, form.read(saved.path))
    _load_optimizer_state(trainer, load_file(saved.path / OPTIMIZER))


def _lies_in_pieces(trainer: Trainer) -> bool:
    """Whether a rank has rows of matrices or parts of them alone."""
    return trainer.masters.is_sharded or trainer.masters.split is not None


def _pieces(trainer: Trainer) -> dict[str, Piece]:
    """This rank's pieces of all that a run remembers, by name."""
    found = {f"{WEIGHTS}.{one.name}": one.piece() for one in trainer.masters.masters}
    for master, state in _states(trainer):
        for key in state.keys() - {"step"}:
            found[f"{OPTIMIZERS}.{master.name}.{key}"] = master.piece(state[key])
    return found


def _load_pieces(trainer: Trainer, folder: Path) -> None:
    load_parts: Any = load("llmctl.train.distributed.parts:load_parts")
    names_of_parts: Any = load("llmctl.train.distributed.parts:names_of_parts")
    masters = {one.name: one for one in trainer.masters.masters}
    states = {id(master): state for master, state in _states(trainer)}
    pieces: dict[str, Piece] = {}
    of: dict[str, tuple[Master, str]] = {}
    for name in names_of_parts(folder):
        kind, _, rest = name.partition(".")
        place, _, key = (rest, "", "") if kind == WEIGHTS else rest.rpartition(".")
        of[name] = masters[place], key
        pieces[name] = masters[place].piece(torch.zeros_like(masters[place].value, device="cpu"))
    load_parts(pieces, folder, alone=trainer.world.is_alone)
    for name, (master, key) in of.items():
        value = pieces[name].value
        if not key:
            master.value.copy_(value)
        elif id(master) in states:
            _put_into(states[id(master)], key, value.to(master.value.device), trainer)
    trainer.masters.publish()


def _optimizer_state(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    """What the optimizers remember, one after the other: `<parameter>.<key>`, as parameters lie."""
    states = {id(master): state for master, state in _states(trainer)}
    keys = sorted({key for state in states.values() for key in state} - {"step"})
    for key in keys:
        values = trainer.masters.assembled(
            trainer.model, lambda master, key=key: states.get(id(master), {}).get(key)
        )
        for name, value in values.items():
            yield f"{name}.{key}", value


def _load_optimizer_state(trainer: Trainer, tensors: Mapping[str, Tensor]) -> None:
    states = {id(master): state for master, state in _states(trainer)}
    for key in {name.rpartition(".")[2] for name in tensors}:
        of = {
            name.rpartition(".")[0]: tensor
            for name, tensor in tensors.items()
            if name.endswith(f".{key}")
        }
        for master, value in trainer.masters.taken_apart(trainer.model, of):
            if id(master) in states:
                value = value.to(master.value.device, copy=True)
                _put_into(states[id(master)], key, value, trainer)


def _put_into(state: dict[str, Tensor], key: str, value: Tensor, trainer: Trainer) -> None:
    state[key] = value
    if key == "exp_avg":  # AdamW counts its updates, for each tensor by itself
        updates = trainer.progress.step - trainer.progress.skipped
        state["step"] = torch.tensor(float(updates), device=value.device)


def _states(trainer: Trainer) -> Iterator[tuple[Master, dict[str, Tensor]]]:
    for master in trainer.masters.masters:
        for optimizer in trainer.optimizers:
            if any(master.value is one for g in optimizer.param_groups for one in g["params"]):
                yield master, optimizer.state[master.value]
