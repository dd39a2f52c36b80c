"""A classifier's folder and texts -> the probabilities of their classes.

N texts, C classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmctl.data.tokenizer import Tokenizer
from llmctl.model.classifier import Classifier, class_logits
from llmctl.model.classifier_folder import load_classifier
from llmctl.model.device import pick_device, pick_dtype


@dataclass(slots=True)
class ClassifierEngine:
    """Texts in, probabilities out; a text that fills the context is read up to there.

    `cut` counts those of which something was not read.
    """

    model: Classifier
    classes: tuple[str, ...]
    tokenizer: Tokenizer
    cut: int = 0

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        device: str = "auto",
        precision: Literal["auto", "bf16", "float32"] = "float32",
    ) -> "ClassifierEngine":
        """The engine of a classifier's folder."""
        where = pick_device(device)
        found = load_classifier(directory, dtype=pick_dtype(where, precision), device=where)
        return cls(found.model, found.classes, Tokenizer.load(directory))

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The logits (N, C) of texts, in their order."""
        context = self.model.shape.context
        whole = [self.tokenizer.encode_prompt(text) for text in texts]
        self.cut += sum(len(ids) > context for ids in whole)
        rows = [self.tokenizer.cut(ids, context) for ids in whole]
        found = class_logits(self.model, rows, self.tokenizer.pad_id)
        return found.numpy().astype(np.float64)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The probabilities (N, C) of the classes of texts."""
        logits_NC = self.logits(texts)
        powers_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
        return powers_NC / powers_NC.sum(axis=1, keepdims=True)
