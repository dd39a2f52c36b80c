"""A classifier <-> a folder that transformers opens as `*ForSequenceClassification`.

The classes stand in config.json as `id2label`, as there. Tokenizer files beside the weights are
not this file's business.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llmctl.errors import WorkspaceError
from llmctl.model.checkpoint import (
    CLASSIFIERS,
    CONFIG,
    NO_SPECIAL_IDS,
    SpecialIds,
    StoredTensors,
    family_of,
    outward,
    read_config,
    shape_of,
    tells_classes,
    write_folder,
)
from llmctl.model.classifier import Classifier
from llmctl.model.transformer import allocate

DECODER, SCORE = "decoder.", "score.weight"
LABELS = ("id2label", "label2id", "num_labels", "problem_type")
# What transformers calls a family's language model ends so.
LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel")


class LoadedClassifier(NamedTuple):
    """A classifier, and the names of its classes in the order of its logits."""

    model: Classifier
    classes: tuple[str, ...]


def save_classifier(
    model: Classifier,
    state: Mapping[str, Tensor],
    classes: Sequence[str],
    directory: Path,
    *,
    special: SpecialIds = NO_SPECIAL_IDS,
) -> None:
    """Write a `state_dict` of a Classifier, or float32 copies of its weights, into a folder.

    `special.pad` is what transformers finds the last token of a padded text by.
    """
    config = family_of(model.shape.family).config(model.shape)
    (language_model,) = config["architectures"]
    for ending in LANGUAGE_MODELS:
        language_model = language_model.removesuffix(ending)
    config |= {
        "architectures": [f"{language_model}{CLASSIFIERS}"],
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
    }
    decoder = {name.removeprefix(DECODER): value for name, value in state.items()}
    tensors = [*outward(decoder, model.shape), (SCORE, state[SCORE])]
    write_folder(directory, config, tensors, dtype=torch.float32, special=special)


def is_classifier(directory: Path) -> bool:
    """Whether the model in a folder tells classes apart, by its config.json alone."""
    return tells_classes(read_config(directory))


def class_names(directory: Path) -> tuple[str, ...]:
    """The classes that the classifier in a folder tells apart, in the order of its logits."""
    return _classes(read_config(directory), directory)


def load_classifier(
    directory: Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> LoadedClassifier:
    """Read a classifier folder, in the type of its weights or in `dtype`.

    Raises ConfigError for a model that we would compute wrongly, WorkspaceError for a folder that
    is incomplete or damaged.
    """
    config = read_config(directory)
    classes = _classes(config, directory)
    shape = shape_of({key: one for key, one in config.items() if key not in LABELS}, directory)
    with torch.device("meta"):
        model = Classifier(shape, len(classes))
    stored = StoredTensors(directory, model.shape, also=(SCORE,))
    allocate(model.to(dtype or stored.dtype), device)
    stored.fill(model.decoder)
    with torch.no_grad():
        model.score.weight.copy_(stored.read(SCORE))
    return LoadedClassifier(model, classes)


def _classes(config: Mapping[str, Any], directory: Path) -> tuple[str, ...]:
    try:
        names = {int(number): str(name) for number, name in config["id2label"].items()}
        return tuple(names[number] for number in range(len(names)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WorkspaceError(
            f"{directory / CONFIG} does not name its classes (`id2label`)",
            hint="a classifier of `finetune classify` or of transformers does",
        ) from error
