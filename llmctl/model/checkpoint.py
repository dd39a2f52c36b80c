"""A model <-> a folder that transformers opens: config.json, generation_config.json, safetensors.

A folder from outside is read by allow-list: config.json field by field, weights as safetensors
alone, never a pickle. Tokenizer files beside them are not this file's business, nor is making a
folder appear at once.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmctl.errors import ConfigError, WorkspaceError
from llmctl.model.families import FAMILIES
from llmctl.model.family import Family, Renaming
from llmctl.model.transformer import Transformer, allocate, fused_parts
from llmctl.registry import look_up
from llmctl.shapes import Shape

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# How a file of several is called until it is known how many they are.
PART = ".model-{:05d}.tmp"
LARGEST_FILE_BYTES = 5 * 10**9
# What transformers calls a model that tells classes apart ends so.
CLASSIFIERS = "ForSequenceClassification"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOATS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class SpecialIds(NamedTuple):
    """The special tokens that a model folder names; None for those that its tokenizer lacks.

    A model that answers may end its turn in several ways.
    """

    eos: int | Sequence[int] | None = None
    pad: int | None = None
    bos: int | None = None


NO_SPECIAL_IDS = SpecialIds()


def save_model(
    state: Mapping[str, Tensor],
    shape: Shape,
    directory: Path,
    *,
    dtype: torch.dtype = torch.float32,
    special: SpecialIds = NO_SPECIAL_IDS,
) -> None:
    """Write a `state_dict` of a Transformer, or float32 copies of its weights, into a folder.

    Raises ConfigError where the shape's family cannot express the shape.
    """
    config = family_of(shape.family).config(shape)
    write_folder(directory, config, outward(state, shape), dtype=dtype, special=special)


def write_folder(
    directory: Path,
    config: Mapping[str, Any],
    tensors: Iterable[tuple[str, Tensor]],
    *,
    dtype: torch.dtype,
    special: SpecialIds,
) -> None:
    """Write a model folder: two JSON files, and tensors under the names that they have there."""
    ids = {f"{name}_token_id": value for name, value in special._asdict().items()}
    # The name before transformers 5, which it and other programs still read.
    type_name = str(dtype).removeprefix("torch.")
    write_json(directory / CONFIG, {**config, **ids, "torch_dtype": type_name})
    write_json(directory / GENERATION_CONFIG, {"_from_model_config": True, **ids})
    _write_weights(directory, tensors, dtype)


def _write_weights(
    directory: Path, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype
) -> None:
    """One file, or where that would be too large several and an index, as Hugging Face has them.

    A tensor is asked for when its turn comes, and no more than a file's worth is held.
    """
    parts: list[list[str]] = []
    held: dict[str, Tensor] = {}
    total = 0
    for name, tensor in tensors:
        if held and sum(one.nbytes for one in held.values()) + tensor.nbytes > LARGEST_FILE_BYTES:
            parts.append(_write_part(directory, len(parts), held))
            held = {}
        # Pieces of a fused parameter share its memory, which safetensors refuses to write.
        held[name] = torch.empty(tensor.shape, dtype=dtype).copy_(tensor)
        total += held[name].nbytes
    if not parts:
        save_file(held, directory / WEIGHTS, metadata={"format": "pt"})
        return
    parts.append(_write_part(directory, len(parts), held))
    names: dict[str, str] = {}
    for place, part in enumerate(parts):
        file = f"model-{place + 1:05d}-of-{len(parts):05d}.safetensors"
        (directory / PART.format(place)).rename(directory / file)
        names |= dict.fromkeys(part, file)
    write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": names})


def _write_part(directory: Path, place: int, tensors: dict[str, Tensor]) -> list[str]:
    save_file(tensors, directory / PART.format(place), metadata={"format": "pt"})
    return list(tensors)


def outward(state: Mapping[str, Tensor], shape: Shape) -> Iterator[tuple[str, Tensor]]:
    """The weights of a Transformer's `state_dict` as they stand in a file of its family."""
    for renaming in family_of(shape.family).renamings(shape):
        yield from _outward(state[renaming.ours], renaming, shape)


def load_model(
    directory: Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Transformer:
    """Read a model folder, in the type of its weights or in `dtype`.

    Raises ConfigError for a model that we would compute wrongly, WorkspaceError for a folder that
    is incomplete, damaged, or holds pickles only.
    """
    shape = read_shape(directory)
    stored = StoredTensors(directory, shape)
    with torch.device("meta"):
        model = Transformer(shape).to(dtype or stored.dtype)
    allocate(model, device)
    stored.fill(model)
    return model


def read_shape(directory: Path) -> Shape:
    """The shape of the language model in a folder, from its config.json alone.

    Raises ConfigError for a classifier, which has no words to say.
    """
    config = read_config(directory)
    if tells_classes(config):
        raise ConfigError(
            f"{directory} is a classifier, not a language model",
            hint="`predict`, `eval` and `clean --quality-model` take its folder as it is; "
            "all else begins with the model that it was made from",
        )
    return shape_of(config, directory)


def tells_classes(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a classifier."""
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith(CLASSIFIERS) for name in names)


def read_ends(directory: Path) -> frozenset[int]:
    """The ids at which the model in a folder stops writing: one, several, or none that it names."""
    for name in (GENERATION_CONFIG, CONFIG):
        found = read_json(directory / name) if (directory / name).is_file() else {}
        ends = found.get("eos_token_id")
        listed = ends if isinstance(ends, list) else [ends]
        if any(isinstance(end, int) for end in listed):
            return frozenset(end for end in listed if isinstance(end, int))
    return frozenset()


def family_of(model_type: str) -> Family:
    """The family of a `model_type`; ConfigError with the nearest names for an unknown one."""
    return look_up(FAMILIES, model_type, kind="model family", group="families")


class StoredTensors:
    """The tensors of a folder under the names of its family's table, each read when asked for.

    `also` names tensors that stand beside those of the decoder; WorkspaceError for what is missing
    and for what nobody expects.
    """

    def __init__(self, directory: Path, shape: Shape, *, also: Sequence[str] = ()) -> None:
        family = family_of(shape.family)
        self._directory = directory
        self._shape = shape
        self._places: dict[str, tuple[Any, str]] = {}
        numbers = 0
        self.dtype = torch.bfloat16
        for path in _weight_files(directory):
            file = open_tensors(path)
            for stored in file.keys():  # noqa: SIM118 - not a mapping
                name = stored if stored in also else family.canonical(stored, shape)
                if name is None:
                    continue
                self._places[name] = (file, stored)
                piece = file.get_slice(stored)
                self.dtype = torch.promote_types(self.dtype, _float_type(piece, stored, path))
                numbers += math.prod(piece.get_shape())
        # First the count: a config.json that asks for 10^12 layers must not be made a list of.
        if numbers < shape.parameters:
            raise WorkspaceError(
                f"{directory} is incomplete: its config.json describes {shape.parameters:,} "
                f"parameters, its weights are {numbers:,}",
                hint="fetch or copy the folder again",
            )
        wanted = {name for renaming in family.renamings(shape) for name in renaming.theirs}
        wanted.update(also)
        self._refuse(wanted - self._places.keys(), "lacks")
        self._refuse(self._places.keys() - wanted, "holds, besides what config.json describes,")

    def fill(self, model: Transformer) -> None:
        """Fill all parameters, on their device and in their type."""
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for renaming in family_of(self._shape.family).renamings(self._shape):
                self._copy_into(parameters[renaming.ours], renaming)

    def read(self, name: str) -> Tensor:
        """One tensor, by its name in the family's table or in `also`."""
        file, stored = self._places[name]
        try:
            return file.get_tensor(stored)
        except SafetensorError as error:
            raise _damaged(self._directory, error) from error

    def _copy_into(self, parameter: Tensor, renaming: Renaming) -> None:
        pieces = [self.read(name) for name in renaming.theirs]
        tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        if renaming.transposed:
            tensor = tensor.T
        if tensor.shape != parameter.shape:
            raise WorkspaceError(
                f"{self._directory}: `{renaming.theirs[0]}` does not have the size that "
                f"config.json gives it ({list(tensor.shape)}, not {list(parameter.shape)})",
                hint="do config.json and the weights belong together?",
            )
        parameter.copy_(tensor)
        if renaming.offset:
            parameter.add_(renaming.offset)

    def _refuse(self, names: Iterable[str], verb: str) -> None:
        listed = sorted(names)
        if listed:
            more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
            raise WorkspaceError(
                f"{self._directory} {verb} {', '.join(f'`{name}`' for name in listed[:3])}{more}",
                hint="do config.json and the weights belong together?",
            )


def _outward(tensor: Tensor, renaming: Renaming, shape: Shape) -> Iterator[tuple[str, Tensor]]:
    if renaming.transposed:
        tensor = tensor.T
    if renaming.offset:
        tensor = tensor - renaming.offset
    if len(renaming.theirs) == 1:
        yield renaming.theirs[0], tensor
        return
    rows = list(fused_parts(shape, renaming.ours).values())
    yield from zip(renaming.theirs, tensor.split(rows), strict=True)


def read_config(directory: Path) -> dict[str, Any]:
    """The config.json of a folder, none of whose fields is understood yet."""
    return read_json(directory / CONFIG)


def shape_of(config: Mapping[str, Any], directory: Path) -> Shape:
    """The shape that a config.json describes; ConfigError names what is not honoured."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise ConfigError(
            f"{directory / CONFIG} does not name a model_type",
            hint=f"llmctl reads {', '.join(FAMILIES)}",
        )
    return family_of(model_type).shape(config)


def _weight_files(directory: Path) -> list[Path]:
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if (directory / INDEX).is_file():
        return [directory / name for name in _shard_names(directory / INDEX)]
    pickles = [path.name for pattern in PICKLES for path in sorted(directory.glob(pattern))]
    if pickles:
        raise WorkspaceError(
            f"{directory} holds its weights as {pickles[0]}, a pickle, which may run any code",
            hint="llmctl reads safetensors alone; convert it where it can do no harm, with "
            "transformers: `AutoModelForCausalLM.from_pretrained(a).save_pretrained(b)`",
        )
    raise WorkspaceError(
        f"{directory} holds no weights", hint=f"a model folder has {WEIGHTS}, or {INDEX} and parts"
    )


def _shard_names(index: Path) -> list[str]:
    table = read_json(index).get("weight_map")
    names = sorted(set(table.values())) if isinstance(table, dict) else []
    for name in names:
        # An index from outside must not reach beyond its own folder.
        is_plain = isinstance(name, str) and Path(name).name == name
        if not is_plain or not name.endswith(".safetensors"):
            raise WorkspaceError(f"{index} names {name!r}, which is no safetensors file beside it")
        if not (index.parent / name).is_file():
            raise WorkspaceError(f"{index.parent} lacks {name}", hint="fetch or copy it again")
    if not names:
        raise WorkspaceError(f"{index} names no files", hint="fetch or copy it again")
    return names


def open_tensors(path: Path) -> Any:
    """A safetensors file, of which nothing is read yet; WorkspaceError where it is none."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _float_type(piece: Any, name: str, path: Path) -> torch.dtype:
    stored = piece.get_dtype()
    if stored not in FLOATS:
        raise WorkspaceError(
            f"{path} holds `{name}` as {stored}",
            hint=f"llmctl reads {', '.join(FLOATS)}; is the model quantized?",
        )
    return FLOATS[stored]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; WorkspaceError where there is none."""
    if not path.is_file():
        raise WorkspaceError(
            f"there is no {path.name} in {path.parent}", hint="a model folder has one"
        )
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it is not a JSON object")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object so that a person can read it, the same bytes for the same content."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _damaged(path: Path, why: object) -> WorkspaceError:
    return WorkspaceError(f"{path} cannot be read: {why}", hint="fetch or copy it again")
