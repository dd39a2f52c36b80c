"""A model + adapters: put in, taken out, merged; on disk a folder that PEFT reads and writes.

A matrix has as many adapters as a family's files keep matrices of it apart: query, key and value
have one each, but a single one in GPT-2. Knows nothing of how an adapter computes (`low_rank`).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmctl.errors import ConfigError, WorkspaceError
from llmctl.model.checkpoint import family_of, open_tensors, read_json, write_json
from llmctl.model.classifier_folder import SCORE
from llmctl.model.family import Family, Fields
from llmctl.model.low_rank import TARGETS, Adapted, AdapterSettings
from llmctl.model.transformer import Transformer, fused_parts
from llmctl.shapes import Shape

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
MATRICES = frozenset(("qkv", "out", "gate_up", "up", "down"))
# How PEFT calls our parameters, behind the name of the module that they adapt.
PREFIX = "base_model.model."
SUFFIXES = {"a": "lora_A.weight", "b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}
# Ways to draw an adapter that leave the model itself alone.
HARMLESS_DRAWS = (True, False, "gaussian", "orthogonal")


class Part(NamedTuple):
    """Rows of a projection that have one adapter: its name, what it adapts, how many they are.

    `theirs` is the module that these rows are in the family's files; `rows` None means all.
    """

    name: str
    means: tuple[str, ...]
    rows: int | None
    theirs: str


class Projection(NamedTuple):
    """A linear layer of the blocks and its parts in order; `transposed` as it lies in files."""

    module: str
    parts: tuple[Part, ...]
    transposed: bool


def add_adapters(model: nn.Module, settings: AdapterSettings, *, seed: int) -> None:
    """Freeze a model, or whatever holds one, and put adapters in; it computes as before.

    What else is to be trained, such as a new head, is thawed afterwards. Raises ConfigError where
    the targets do not fit the family.
    """
    body = transformer_in(model)
    chosen = {one.module: _chosen(one, settings) for one in projections(body.shape)}
    if not any(chosen.values()):
        raise ConfigError(
            f"a model of the family `{body.shape.family}` has no {', '.join(settings.targets)}"
            " to adapt",
            hint=f"choose from {', '.join(TARGETS)}",
        )
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for projection in projections(body.shape):
        names = chosen[projection.module]
        if not names:
            continue
        linear = body.get_submodule(projection.module)
        assert isinstance(linear, nn.Linear), "a model has one set of adapters at a time"
        rows = {part.name: part.rows or linear.out_features for part in projection.parts}
        adapted = Adapted(linear, rows, names, settings)
        for adapter in adapted.adapters.values():
            adapter.draw(generator)
        body.set_submodule(projection.module, adapted)


def fold_frozen(model: nn.Module, device: torch.device) -> None:
    """Keep the weights under the adapters in four bits, on a device, to train beside them alone.

    DependencyError without bitsandbytes.
    """
    for adapted in _adapted(transformer_in(model)).values():
        adapted.fold(device)


def merge_adapters(model: nn.Module) -> None:
    """Put the adapters into the weights, in place: a plain model again, with nothing frozen."""
    body = transformer_in(model)
    for name, adapted in _adapted(body).items():
        body.set_submodule(name, adapted.merge())
    model.requires_grad_(True)


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The adapters alone: `blocks.0.mlp.down.down.a`, `….b` and, for DoRA, `….magnitude`."""
    return {name: value.detach() for name, value in _parameters(model)}


def load_adapter_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill the adapters of a model; WorkspaceError names what is missing, strange or ill-sized."""
    places = dict(_parameters(model))
    _refuse(places.keys() - state.keys(), "lacks")
    _refuse(state.keys() - places.keys(), "holds, besides what is adapted,")
    with torch.no_grad():
        for name, place in places.items():
            if place.shape != state[name].shape:
                raise WorkspaceError(
                    f"the adapter's `{name}` does not have the size that the model gives it"
                    f" ({list(state[name].shape)}, not {list(place.shape)})",
                    hint="does it belong to this model?",
                )
            place.copy_(state[name])


def transformer_in(model: nn.Module) -> Transformer:
    """The Transformer that a model is, or holds."""
    return next(one for one in model.modules() if isinstance(one, Transformer))


def projections(shape: Shape) -> Iterator[Projection]:
    """Every linear layer that can be adapted, in the order of the network."""
    for renaming in family_of(shape.family).renamings(shape):
        module, _, kind = renaming.ours.rpartition(".")
        leaf = module.rpartition(".")[2]
        if kind != "weight" or leaf not in MATRICES:
            continue
        theirs = [name.removesuffix(".weight") for name in renaming.theirs]
        fused = fused_parts(shape, renaming.ours)
        if len(theirs) == 1:
            parts = [Part(leaf, tuple(fused) or (leaf,), None, theirs[0])]
        else:
            rows = zip(fused.items(), theirs, strict=True)
            parts = [Part(name, (name,), count, one) for (name, count), one in rows]
        yield Projection(module, tuple(parts), renaming.transposed)


def save_adapter(
    model: nn.Module, settings: AdapterSettings, directory: Path, base_name: str
) -> None:
    """Write the adapters of a model into a folder that PEFT loads onto the model `base_name`."""
    write_adapter(adapter_state(model), transformer_in(model).shape, settings, directory, base_name)


def write_adapter(
    state: Mapping[str, Tensor],
    shape: Shape,
    settings: AdapterSettings,
    directory: Path,
    base_name: str,
    *,
    head_CD: Tensor | None = None,
) -> None:
    """The same of the state of adapters; with the head of a classifier, of C classes, beside them.

    Such a one goes onto transformers' `AutoModelForSequenceClassification` of the base.
    """
    tensors = dict[str, Tensor]()
    adapted: set[str] = set()
    others: set[str] = set()
    for projection in projections(shape):
        for part in projection.parts:
            ours = f"{projection.module}.{part.name}"
            (adapted if f"{ours}.a" in state else others).add(part.theirs)
            for name, suffix in SUFFIXES.items():
                if f"{ours}.{name}" in state:
                    place = f"{PREFIX}{part.theirs}.{suffix}"
                    tensors[place] = state[f"{ours}.{name}"].cpu().contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": _target_modules(adapted, others),
        "use_dora": settings.dora,
        "bias": "none",
        "fan_in_fan_out": any(one.transposed for one in projections(shape)),
        "inference_mode": True,
    }
    if head_CD is not None:
        tensors[f"{PREFIX}{SCORE}"] = head_CD.detach().cpu().contiguous()
        config |= {"task_type": "SEQ_CLS", "modules_to_save": [SCORE.removesuffix(".weight")]}
    write_json(directory / CONFIG, config)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})


def load_adapter(model: nn.Module, directory: Path) -> AdapterSettings:
    """Put the adapters of a PEFT folder into a model, which is frozen; what they are is returned.

    Raises ConfigError for one that asks for what is not done here, WorkspaceError for one that is
    damaged, a pickle, or of another model.
    """
    body = transformer_in(model)
    settings = _read_settings(read_json(directory / CONFIG))
    state = _read_state(directory, body.shape)
    means = [
        name
        for projection in projections(body.shape)
        for part in projection.parts
        if f"{projection.module}.{part.name}.a" in state
        for name in part.means
    ]
    targets = tuple(name for name in TARGETS if name in means)
    settings = AdapterSettings(**settings, targets=targets)
    add_adapters(model, settings, seed=0)
    load_adapter_state(model, state)
    return settings


def _chosen(projection: Projection, settings: AdapterSettings) -> list[str]:
    """The parts that get an adapter; ConfigError where half of one would be adapted."""
    chosen: list[str] = []
    for part in projection.parts:
        left_out = [name for name in part.means if name not in settings.targets]
        if not left_out:
            chosen.append(part.name)
        elif len(left_out) < len(part.means):
            raise ConfigError(
                f"this family adapts {', '.join(part.means)} as one matrix,"
                f" which cannot be done without {', '.join(left_out)}",
                hint="name all of them as targets, or none",
            )
    return chosen


def _adapted(body: Transformer) -> dict[str, Adapted]:
    return {name: one for name, one in body.named_modules() if isinstance(one, Adapted)}


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for module, adapted in _adapted(transformer_in(model)).items():
        for name, value in adapted.parts.named_parameters():
            yield f"{module}.{name}", value


def _target_modules(adapted: Iterable[str], others: Iterable[str]) -> list[str]:
    """The ends of names by which PEFT finds what is adapted: as short as tells it from the rest."""
    for words in (1, 2):
        ends = {".".join(name.split(".")[-words:]) for name in adapted}
        if ends.isdisjoint(".".join(name.split(".")[-words:]) for name in others):
            break
    return sorted(ends)


def _read_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an adapter_config.json says, but for its targets, which its tensors tell."""
    # PEFT writes every field it knows; one that says nothing asks for nothing.
    said = {name: value for name, value in config.items() if value not in (None, False, [], {})}
    fields = Fields(said, file=CONFIG, whose="llmctl's adapters do")
    fields.expect("peft_type", "LORA")
    fields.expect("task_type", "CAUSAL_LM")
    fields.expect("bias", "none")
    fields.expect("init_lora_weights", *HARMLESS_DRAWS)
    fields.drop(
        *"base_model_name_or_path revision auto_mapping inference_mode peft_version".split(),
        *"target_modules exclude_modules fan_in_fan_out megatron_core".split(),
        *"qalora_group_size runtime_config".split(),
    )
    rank = fields.integer("r", 8)
    alpha = fields.number("lora_alpha", 8.0)
    # Rank-stabilised LoRA (arXiv 2312.03732) is another scale: alpha / sqrt(R).
    scale = math.sqrt(rank) if fields.flag("use_rslora", False) else 1.0
    dropout = fields.share("lora_dropout")
    dora = fields.flag("use_dora", False)
    fields.finish()
    return {"rank": rank, "alpha": alpha * scale, "dropout": dropout, "dora": dora}


def _read_state(directory: Path, shape: Shape) -> dict[str, Tensor]:
    """The tensors of a PEFT folder under our names."""
    path = directory / WEIGHTS
    if not path.is_file() and (directory / PICKLE).is_file():
        raise WorkspaceError(
            f"{directory} holds its adapter as {PICKLE}, a pickle, which may run any code",
            hint="llmctl reads safetensors alone; load and save it with a newer PEFT",
        )
    family = family_of(shape.family)
    ours = {
        f"{part.theirs}.{suffix}": f"{projection.module}.{part.name}.{name}"
        for projection in projections(shape)
        for part in projection.parts
        for name, suffix in SUFFIXES.items()
    }
    file = open_tensors(path)
    stored = {_canonical(name, family, shape): name for name in file.keys()}  # noqa: SIM118
    _refuse(stored.keys() - ours.keys(), "holds, besides what can be adapted,")
    return {ours[name]: file.get_tensor(place) for name, place in stored.items()}


def _canonical(name: str, family: Family, shape: Shape) -> str:
    """A tensor's name in the words of the family's own table."""
    module, dot, suffix = name.removeprefix(PREFIX).partition(".lora_")
    known = family.canonical(f"{module}.weight", shape)
    return f"{(known or module).removesuffix('.weight')}{dot}{suffix}"


def _refuse(names: Iterable[str], verb: str) -> None:
    listed = sorted(names)
    if listed:
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        raise WorkspaceError(
            f"the adapter {verb} {', '.join(f'`{name}`' for name in listed[:3])}{more}",
            hint="does it belong to this model?",
        )
