"""A classifier's folder and one of its classes -> how likely a text is of that class.

A small value that travels to other processes; what it names is opened where it is first asked.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from llmctl.data.reading import Reading
from llmctl.infer.classifier_engine import ClassifierEngine
from llmctl.model.device import one_thread


@dataclass(frozen=True, slots=True)
class Likeness:
    """The probability of the class at `column`, by the beginning of a text that the model holds.

    `digest` tells one model from another that stood in the same folder before.
    """

    folder: Path
    column: int
    digest: str = ""

    def __call__(self, reading: Reading) -> float:
        """On one thread and in float32: the same for any number of processes."""
        with one_thread():
            found_NC = _engine(self.folder, self.digest).probabilities([reading.text])
        return float(found_NC[0, self.column])


@lru_cache(maxsize=1)
def _engine(folder: Path, _digest: str) -> ClassifierEngine:
    return ClassifierEngine.open(folder, device="cpu")
