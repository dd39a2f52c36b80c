"""What a model family is: a `Shape` as config.json says it, and our parameters by other names.

The files of `families/` fill this in and hold no tensors; files are read and written by
`checkpoint`. A foreign config.json is never passed on: each of its fields is understood, known to
be harmless, or refused by name.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmctl.errors import ConfigError
from llmctl.shapes import RopeScaling, Shape

# Fields that change no logits: names, types, special tokens, and what is for training alone.
HARMLESS = frozenset(
    """
    _name_or_path architectures model_type torch_dtype dtype transformers_version use_cache
    initializer_range bos_token_id eos_token_id pad_token_id attention_dropout
    output_attentions output_hidden_states return_dict pretraining_tp max_length
    _num_labels id2label label2id is_llama_config transformers.js_config unsloth_fixed
    unsloth_version _attn_implementation_autoset
    """.split()
)


class Renaming(NamedTuple):
    """A parameter of ours, and the tensors elsewhere that hold its rows, one after the other.

    `transposed` where those are stored with inputs first, `offset` what they are short of ours.
    """

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False
    offset: float = 0.0


class Fields:
    """A config.json being read: what nobody has asked for when it is done is refused by name.

    `file` is what the file is called, and `whose` says who does not do what is left.
    """

    def __init__(
        self, config: Mapping[str, Any], *, file: str = "config.json", whose: str = ""
    ) -> None:
        self.model_type = str(config.get("model_type", ""))
        self._file, self._whose = file, whose or f"llmctl's `{self.model_type}` does"
        self._left = {name: value for name, value in config.items() if name not in HARMLESS}

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number; missing or null means `default`, and is refused where there is none."""
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _unreadable(name, value, "a whole number")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above zero; missing or null means `default`, as for `integer`."""
        value = self._take(name, default)
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise _unreadable(name, value, "a number above zero")
        return float(value)

    def share(self, name: str) -> float:
        """A number from zero to below one; zero where it is missing."""
        value = self._take(name, 0.0)
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise _unreadable(name, value, "a number from 0 to below 1")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise _unreadable(name, value, "true or false")
        return value

    def window(self, name: str) -> int | None:
        """How many tokens a token sees; missing or null means all before it."""
        if self._left.get(name) is None:
            self.drop(name)
            return None
        return self.integer(name)

    def rope(self, default: float = 10_000.0) -> dict[str, Any]:
        """`rope_base` and `rope_scaling`, of transformers 5 (`rope_parameters`) or before."""
        base, scalings = self.number("rope_theta", default), set[RopeScaling]()
        for name in ("rope_scaling", "rope_parameters"):
            nested = self._left.get(name)
            if not isinstance(nested, dict):
                continue
            kind = nested.get("rope_type", nested.get("type", "default"))
            if kind not in ("default", "linear", "llama3"):
                continue
            del self._left[name]
            inner = Fields(nested, file=self._file, whose=self._whose)
            inner.drop("rope_type", "type")
            base = inner.number("rope_theta", base)
            if kind != "default":
                scalings.add(inner._rope_scaling(kind))
            inner.finish()
        if len(scalings) > 1:
            raise _unreadable("rope_scaling", scalings, "the same as in `rope_parameters`")
        return {"rope_base": base, "rope_scaling": next(iter(scalings), None)}

    def _rope_scaling(self, kind: str) -> RopeScaling:
        factor = self.number("factor")
        if kind == "linear":
            return RopeScaling(factor=factor)
        return RopeScaling(
            factor=factor,
            original=self.integer("original_max_position_embeddings"),
            low=self.number("low_freq_factor"),
            high=self.number("high_freq_factor"),
        )

    def expect(self, name: str, *values: Any) -> None:
        """Accept a field that has one of these values, or is missing."""
        if name in self._left and self._left[name] in values:
            del self._left[name]

    def expect_each(self, name: str, value: Any) -> None:
        """Accept a list that says this of every layer."""
        found = self._left.get(name)
        if found is None or (isinstance(found, list) and all(one == value for one in found)):
            self.drop(name)

    def drop(self, *names: str) -> None:
        """Accept fields that mean nothing here, whatever they say."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        """Refuse what is left, by name and value; what is null asks for nothing."""
        left = {name: value for name, value in self._left.items() if value is not None}
        if left:
            listed = ", ".join(f"{name} = {value!r}" for name, value in sorted(left.items()))
            raise ConfigError(
                f"{self._file} asks for what {self._whose} not do: {listed}",
                hint="the model would compute something else than its authors meant",
            )

    def _take(self, name: str, default: Any) -> Any:
        value = self._left.pop(name, None)
        return default if value is None else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family's two tables: shape <-> config.json, and our parameters <-> its tensors.

    `canonical` gives the name, in those tables, of a tensor found in a file; None for one that
    may stand there and is not needed.
    """

    read: Callable[[Fields], Shape]
    write: Callable[[Shape], dict[str, Any]]
    renamings: Callable[[Shape], Iterator[Renaming]]
    canonical: Callable[[str, Shape], str | None]

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """The shape that a config.json describes; ConfigError names every field not honoured."""
        values = Fields(config)
        shape = self.read(values)
        values.finish()
        return shape

    def config(self, shape: Shape) -> dict[str, Any]:
        """The config.json of a shape; ConfigError names every trait that the family cannot say."""
        config = self.write(shape)
        said = dataclasses.asdict(self.shape(config))
        lost = {
            name: value for name, value in dataclasses.asdict(shape).items() if said[name] != value
        }
        if lost:
            traits = ", ".join(f"{name} = {value}" for name, value in lost.items())
            raise ConfigError(
                f"a model of the family `{shape.family}` cannot have {traits}",
                hint="leave these as the family has them, or choose another family",
            )
        return config


def _unreadable(name: str, value: Any, wanted: str) -> ConfigError:
    if value is None:
        return ConfigError(
            f"config.json does not say `{name}`", hint="is it the config.json of a language model?"
        )
    return ConfigError(f"config.json has {name} = {value!r}", hint=f"`{name}` must be {wanted}")
