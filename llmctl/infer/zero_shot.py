"""A language model that was not tuned, and names of classes -> which class it takes a text for.

It is asked how much likelier each name gets by the text before it: names that are likely anywhere
would else always win (Holtzman et al. 2021, arxiv.org/abs/2104.08315, section 3).

N texts, C classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmctl.infer.engine import Engine

# Between a text and the name of its class.
ASKING = "\nLabel:"


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Texts in, scores of classes out, as a `ClassifierEngine` gives them."""

    engine: Engine
    classes: tuple[str, ...]

    @classmethod
    def open(cls, directory: Path, classes: Sequence[str], *, device: str = "auto") -> "ZeroShot":
        """The language model of a folder, asked for these classes."""
        return cls(Engine.open(directory, device=device, precision="float32"), tuple(classes))

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """By how many nats the name of each class gets likelier by each text, (N, C).

        Takes C readings of every text. Of a text that is too long the end is read.
        """
        pairs = [(f"{text}{ASKING}", f" {name}") for text in ("", *texts) for name in self.classes]
        nats = [one.nats for one in self.engine.log_likelihoods(pairs)]
        found_NC = np.array(nats).reshape(1 + len(texts), len(self.classes))
        return found_NC[1:] - found_NC[:1]
