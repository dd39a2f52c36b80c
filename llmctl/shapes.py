"""A model's shape as numbers -> its parameters, FLOPs and cache; the sizes by name; no torch.

A family of shapes (`qwen3`, `llama`, `gpt2`) is a set of traits; a size is depth, width, head
width and context. Both together are a `Shape`. What a family's files look like is known to
`model/families` alone.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from llmctl.errors import ConfigError
from llmctl.registry import suggest

Norm = Literal["rms", "layer"]
Position = Literal["rope", "learned"]
Activation = Literal["swiglu", "geglu", "gelu_tanh"]
Bias = Literal["none", "qkv", "attention", "all"]

GATED = ("swiglu", "geglu")


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Rotary positions slowed down to reach further than a model was first trained for.

    A frequency whose wave fits fewer than `low` times into the `original` context is divided by
    `factor`, one whose wave fits more than `high` times is kept, between them it is interpolated
    (Llama 3; arXiv 2407.21783). With `original` None all are divided (arXiv 2306.15595).
    """

    factor: float
    original: int | None = None
    low: float = 1.0
    high: float = 4.0

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ConfigError(
                f"rotary positions cannot be scaled between {self.high} and {self.low} waves",
                hint="the high-frequency factor must be above the low-frequency one",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """All numbers that make a decoder: two models of equal shape have interchangeable weights.

    `mlp_width` is the inner width of the feed-forward part (of each half, where it is gated);
    `window` lets a token see that many tokens, itself included, None means all before it;
    `scaled_embedding` multiplies embeddings, but not the head tied to them, by the root of `width`.
    Raises ConfigError for what no network can have.
    """

    family: str = "qwen3"
    vocab_size: int
    num_layers: int
    width: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    mlp_width: int
    context: int
    norm: Norm = "rms"
    norm_eps: float = 1e-6
    position: Position = "rope"
    rope_base: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    activation: Activation = "swiglu"
    bias: Bias = "none"
    tied_head: bool = False
    scaled_embedding: bool = False
    qk_norm: bool = True
    window: int | None = None

    def __post_init__(self) -> None:
        counts = (
            "vocab_size num_layers width num_heads num_kv_heads head_width mlp_width context"
        ).split()
        for name in [*counts, *(["window"] if self.window is not None else [])]:
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"a model cannot have {name} = {getattr(self, name)}",
                    hint="it must be at least 1",
                )
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"{self.num_heads} heads cannot share {self.num_kv_heads} key and value heads",
                hint="num_heads must be a multiple of num_kv_heads",
            )
        if self.position == "rope" and self.head_width % 2:
            raise ConfigError(
                f"rotary positions need an even head width, not {self.head_width}",
                hint="choose a width that num_heads divides into even parts",
            )

    @property
    def parameters(self) -> int:
        """Every trained number, exactly: what `numel` over the model's parameters gives."""
        embeddings = self.vocab_size * self.width * (1 if self.tied_head else 2)
        if self.position == "learned":
            embeddings += self.context * self.width
        layer = self._layer_matrices + self._layer_biases + 2 * self._norm
        if self.qk_norm:
            layer += 2 * self.head_width
        return embeddings + self.num_layers * layer + self._norm

    def part(self, parts: int) -> "Shape":
        """What one of so many has of it, who hold some heads and some of the inner width each."""
        if parts == 1:
            return self
        return replace(
            self,
            num_heads=self.num_heads // parts,
            num_kv_heads=self.num_kv_heads // parts,
            mlp_width=self.mlp_width // parts,
        )

    @property
    def matmul_parameters(self) -> int:
        """Numbers that each token is multiplied with: the matrices of the layers and the head.

        The head counts also where it is tied; looking up an embedding costs no product.
        """
        return self.num_layers * self._layer_matrices + self.vocab_size * self.width

    def flops_per_token(self, context: int | None = None) -> int:
        """Training FLOPs of one token, forward and backward: 6 x matmul parameters + 12 L C T.

        The attention over `context` tokens (the shape's own by default) is counted in full, as
        is usual, although a causal kernel skips about half of it (arXiv 2204.02311, appendix B).
        """
        attention = 12 * self.num_layers * self.attention_width * (context or self.context)
        return 6 * self.matmul_parameters + attention

    def cache_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Memory that one token of one sequence takes while text is generated."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_width * bytes_per_value

    @property
    def attention_width(self) -> int:
        """The width of all heads together; equal to `width` in most models."""
        return self.num_heads * self.head_width

    @property
    def qkv_widths(self) -> tuple[int, int, int]:
        """How many outputs of the fused projection are queries, keys and values."""
        shared = self.num_kv_heads * self.head_width
        return self.attention_width, shared, shared

    @property
    def _layer_matrices(self) -> int:
        attention = self.width * (sum(self.qkv_widths) + self.attention_width)
        return attention + self._mlp_matrices * self.width * self.mlp_width

    @property
    def _layer_biases(self) -> int:
        if self.bias == "none":
            return 0
        attention = sum(self.qkv_widths) + (self.width if self.bias != "qkv" else 0)
        if self.bias != "all":
            return attention
        return attention + self.width + (self._mlp_matrices - 1) * self.mlp_width

    @property
    def _mlp_matrices(self) -> int:
        return 3 if self.activation in GATED else 2

    @property
    def _norm(self) -> int:
        has_bias = self.norm == "layer" and self.bias == "all"
        return self.width * (2 if has_bias else 1)


class Size(NamedTuple):
    """What a size is made of; everything else of a shape follows from it and the family."""

    num_layers: int
    width: int
    head_width: int
    context: int = 1024


# nano and tiny are for a laptop; mini is the largest that two cores train in an evening. From
# `small` on GPT-3's table (arXiv 2005.14165, table 2.1), but for two rows whose heads do not make
# up their width there: xl (24 x 128 is not 2048; 16 heads here) and 13b (5140 for 5120).
SIZES: dict[str, Size] = {
    "nano": Size(4, 192, 32, 256),
    "tiny": Size(6, 384, 64, 256),
    "mini": Size(8, 512, 64, 512),
    "small": Size(12, 768, 64, 1024),
    "medium": Size(24, 1024, 64, 2048),
    "large": Size(24, 1536, 96, 2048),
    "xl": Size(24, 2048, 128, 2048),
    "2.7b": Size(32, 2560, 80, 2048),
    "6.7b": Size(32, 4096, 128, 2048),
    "13b": Size(40, 5120, 128, 2048),
    "175b": Size(96, 12288, 128, 2048),
}

# What the families that we train from scratch have in common with their namesakes.
TRAITS: dict[str, Mapping[str, Any]] = {
    "qwen3": {"qk_norm": True},
    "llama": {"qk_norm": False, "norm_eps": 1e-5},
    "gpt2": {
        "norm": "layer",
        "norm_eps": 1e-5,
        "position": "learned",
        "activation": "gelu_tanh",
        "bias": "all",
        "tied_head": True,
        "qk_norm": False,
    },
}

DEFAULT_FAMILY = "qwen3"
WIDTH_STEP = 64
# When a shape is sought, a count that is off by this much is as bad as being 2.7 times too deep.
OFF = 0.07
FAR = 0.15


def shape_of(size: Size, *, vocab_size: int, family: str = DEFAULT_FAMILY, **given: Any) -> Shape:
    """The shape of a size in a family; `given` are fields of Shape that override both.

    What is not given follows from the width: heads, and four times as much inside the feed-forward
    part, or 8/3 for `swiglu`, whose third matrix makes up for it (arXiv 2002.05202).
    """
    if family not in TRAITS:
        raise ConfigError(f"unknown model family `{family}`", hint=suggest(family, TRAITS))
    traits: dict[str, Any] = {**TRAITS[family], **size._asdict(), **given}
    width = traits["width"]
    num_heads, head_width = _heads(size, given)
    is_gated = traits.get("activation", "swiglu") in GATED
    derived: dict[str, Any] = {
        "num_heads": num_heads,
        "num_kv_heads": num_heads,
        "head_width": head_width,
        "mlp_width": _rounded(width * 8 / 3) if is_gated else 4 * width,
    }
    return Shape(family=family, vocab_size=vocab_size, **(traits | derived | given))


def named_shape(name: str, *, vocab_size: int, family: str = DEFAULT_FAMILY, **given: Any) -> Shape:
    """The shape of a row of `SIZES`; `given` are fields of Shape that override it.

    >>> named_shape("small", vocab_size=50257, family="gpt2").parameters
    124439808
    """
    if name not in SIZES:
        raise ConfigError(f"unknown size `{name}`", hint=suggest(name, SIZES))
    return shape_of(SIZES[name], vocab_size=vocab_size, family=family, **given)


def shape_for(
    parameters: float, *, vocab_size: int, family: str = DEFAULT_FAMILY, **given: Any
) -> Shape:
    """The best-proportioned shape of about that many parameters, embeddings and head included.

    Raises ConfigError where no sane depth and width come within 15 %, as when the vocabulary alone
    is larger than the model.
    """
    if not 1e4 <= parameters <= 1e13:
        raise ConfigError(
            f"a model of {parameters:,.0f} parameters is out of range",
            hint="say a count between 1e4 and 1e13, such as 124e6",
        )
    given.setdefault("context", _usual_context(parameters))
    shapes = list(_candidates(parameters, vocab_size=vocab_size, family=family, **given))

    def distance(shape: Shape) -> float:
        return abs(math.log(shape.parameters / parameters))

    def rank(shape: Shape) -> float:
        aspect = abs(math.log(shape.width / shape.num_layers / _ideal_aspect(parameters)))
        return distance(shape) / OFF + aspect

    best = min(shapes, key=rank, default=None)
    if best is None or distance(best) > FAR:
        nearest = f"; the nearest has {best.parameters:,}" if best else ""
        raise ConfigError(
            f"no model of {parameters:,.0f} parameters goes with a vocabulary of {vocab_size:,}"
            f" and what else is given{nearest}",
            hint="choose a smaller vocabulary, a tied head, or another count of parameters",
        )
    return best


def _candidates(parameters: float, **given: Any) -> Iterator[Shape]:
    """For each width the depth that comes nearest; what is given is taken as it is."""
    free = {name: value for name, value in given.items() if name != "num_layers"}
    is_free = not given.keys() & {"width", "num_layers"}
    for width in [given["width"]] if "width" in given else _widths(parameters, given):
        sizes = (Size(depth, width, _head_width(width)) for depth in (1, 2))
        one, two = (shape_of(size, **free) for size in sizes)
        layer = two.parameters - one.parameters
        depth = max(2, round((parameters - one.parameters) / layer) + 1)
        if not is_free or 16 <= width / depth <= 256:
            yield replace(one, num_layers=given.get("num_layers", depth))


def _widths(parameters: float, given: Mapping[str, Any]) -> Iterator[int]:
    # A layer has about 12 width² parameters, and no sane model is wider than 256 times its depth.
    widest = (parameters * 256 / 12) ** (1 / 3)
    if given.get("num_layers"):
        widest = (parameters / 8 / given["num_layers"]) ** (1 / 2)
    step = math.lcm(WIDTH_STEP, 2 * (given.get("num_heads") or 1))
    yield from range(step, _rounded(widest) + step + 1, step)


def _heads(size: Size, given: Mapping[str, Any]) -> tuple[int, int]:
    """How many heads and how wide: together as wide as the model, unless both are given."""
    width = given.get("width", size.width)
    num_heads, head_width = given.get("num_heads"), given.get("head_width")
    if num_heads and head_width:
        return num_heads, head_width
    usual = size.head_width if width == size.width else _head_width(width)
    divisor = num_heads or head_width or usual
    if width % divisor:
        raise ConfigError(
            f"a width of {width} does not divide into "
            + (f"{num_heads} heads" if num_heads else f"heads of {divisor}"),
            hint=f"choose a multiple of {divisor}, or another number of heads",
        )
    other = width // divisor
    return (divisor, other) if num_heads else (other, divisor)


def _head_width(width: int) -> int:
    if width >= 2048 and width % 128 == 0:
        return 128
    return 64 if width >= 384 else 32


def _ideal_aspect(parameters: float) -> float:
    # Width per layer in GPT-3's table: 64 up to 125 M parameters, 128 at 175 B.
    return 64 * 2 ** min(max(math.log(parameters / 125e6) / math.log(1400), 0), 1)


def _usual_context(parameters: float) -> int:
    smaller = (
        size.context
        for size in SIZES.values()
        if 12 * size.num_layers * size.width**2 <= parameters
    )
    return max(smaller, default=256)


def _rounded(width: float) -> int:
    return max(WIDTH_STEP, round(width / WIDTH_STEP) * WIDTH_STEP)
