"""A run's state on disk: saved whole, checked when read, the newest sound one found.

Each checkpoint is a model folder that transformers opens, with the optimizer's tensors and the
loop's counters beside it. safetensors and JSON only: nothing here can run code when loaded.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmctl.durable import damage, sealed_directory
from llmctl.errors import TrainingError
from llmctl.train.masters import Masters
from llmctl.train.trainer import Progress, Trainer

OPTIMIZER = "optimizer.safetensors"
COUNTERS = "trainer.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Saved:
    """A sound checkpoint: its folder, the loop's counters and what the owner of the run noted."""

    path: Path
    progress: Progress
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder: `step-00000100`, `step-00000200` ..."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.directory = directory
        self.keep = keep

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies, or would."""
        return self.directory / f"step-{step:08d}"

    def save(
        self, trainer: Trainer, write_model: Callable[[Path], None], notes: dict[str, Any]
    ) -> Path:
        """Save the run as it stands; TrainingError on a full disk, earlier ones untouched."""
        target = self.path(trainer.progress.step)
        counters = {"progress": asdict(trainer.progress), "notes": notes}
        try:
            with sealed_directory(target) as folder:
                write_model(folder)
                save_file(_optimizer_state(trainer), folder / OPTIMIZER)
                (folder / COUNTERS).write_text(json.dumps(counters, indent=1), encoding="utf-8")
        except OSError as error:
            raise TrainingError(
                f"step {trainer.progress.step:,} could not be saved: {error.strerror or error}",
                hint=f"free some space and run the same command again; {self._told_last()}",
            ) from error
        return target

    def newest(self) -> Saved | None:
        """The newest checkpoint that is sound; a damaged one is set aside, by name."""
        for path in reversed(self._all()):
            why = damage(path)
            if why is None:
                return _read(path)
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            logger.warning("checkpoint %s is damaged (%s); set aside as %s", path, why, aside.name)
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


def sound(path: Path) -> Saved | None:
    """The checkpoint in a folder, None where it is damaged."""
    return _read(path) if damage(path) is None else None


def _read(path: Path) -> Saved:
    counters = json.loads((path / COUNTERS).read_text(encoding="utf-8"))
    return Saved(path, Progress(**counters["progress"]), counters["notes"])


def restore(
    trainer: Trainer, saved: Saved, read_model: Callable[[Path], dict[str, Tensor]]
) -> None:
    """Put weights, optimizer and counters of a checkpoint into a trainer."""
    trainer.masters.load(trainer.model, read_model(saved.path))
    _load_optimizer_state(trainer, load_file(saved.path / OPTIMIZER))
    trainer.progress = saved.progress


def _optimizer_state(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.detach().contiguous()
        for name, state in _named_states(trainer.masters, trainer.optimizers)
        for key, value in state.items()
    }


def _load_optimizer_state(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    for name, state in _named_states(trainer.masters, trainer.optimizers):
        prefix = f"{name}."
        for key, value in tensors.items():
            if key.startswith(prefix):
                place = key.removeprefix(prefix)
                device = torch.device("cpu") if place == "step" else trainer.device
                state[place] = value.to(device)


def _named_states(
    masters: Masters, optimizers: Sequence[torch.optim.Optimizer]
) -> Iterable[tuple[str, dict[str, Tensor]]]:
    for master in masters.masters:
        for optimizer in optimizers:
            if any(master.value is one for g in optimizer.param_groups for one in g["params"]):
                yield master.name, optimizer.state[master.value]
