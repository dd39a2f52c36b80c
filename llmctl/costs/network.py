"""What is to be trained, as numbers: from counts, a published name, a config.json or a Shape.

`Network` is wider than `shapes.Shape`: it also stands for models that llmctl does not build, with
experts, other biases or a shape that nobody published.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from llmctl.costs.tables import Row, number, rows
from llmctl.errors import ConfigError
from llmctl.registry import suggest

if TYPE_CHECKING:
    from llmctl.shapes import Shape

DEFAULT_CONTEXT = 2048
DEFAULT_VOCABULARY = 50_000
# Every published size below stands in `tables/models.csv`; a guess takes their usual proportions.
LEAST, MOST = 1e4, 1e14


class Network(NamedTuple):
    """A decoder as its cost sees it.

    `total` parameters are stored, `active` ones used by each token (all, without experts).
    `mlp_width` is the inner width that each token passes, `matrices` how many matrices have it.
    `is_exact` where the counts follow from a known shape.
    """

    name: str
    total: float
    active: float
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    matrices: int
    vocabulary: int
    context: int
    tied: bool = False
    positions: int = 0
    window: int | None = None
    experts: int = 0
    is_exact: bool = True
    source: str = ""

    @property
    def attention_width(self) -> int:
        """The width of all heads together."""
        return self.heads * self.head_width

    @property
    def matmul_parameters(self) -> float:
        """Active parameters that a token is multiplied with: no input embedding, but the head."""
        unused = (0 if self.tied else self.vocabulary * self.width) + self.positions * self.width
        return max(self.active - unused, self.active / 2)

    @property
    def is_mixture(self) -> bool:
        """Whether a token passes only some of the parameters."""
        return self.total > 1.05 * self.active

    @property
    def linear_width_per_layer(self) -> int:
        """Inputs plus outputs of a layer's matrices: what one rank of all adapters has."""
        kv = self.kv_heads * self.head_width
        attention = 4 * self.width + 2 * self.attention_width + 2 * kv
        return attention + self.matrices * (self.width + self.mlp_width)

    def with_context(self, context: int | None) -> "Network":
        """The network trained on sequences of another length."""
        if context is None:
            return self
        _above_zero("context", context)
        return self._replace(context=context)


def from_counts(
    total: float,
    *,
    active: float | None = None,
    context: int | None = None,
    vocabulary: int | None = None,
) -> Network:
    """A network of which only the size is known, in the proportions that are usual for it.

    ConfigError for sizes that no network has.
    """
    active = total if active is None else active
    for name, count in (("parameters", total), ("active parameters", active)):
        if not LEAST <= count <= MOST:
            raise ConfigError(
                f"a model of {count:g} {name} makes no sense",
                hint="say a count between 1e4 and 1e14, such as 7b or 175e9",
            )
    if active > total:
        raise ConfigError(
            f"{active:g} active parameters are more than the {total:g} in all",
            hint="`--params` is the whole model, `--active` what each token uses",
        )
    for name, count in (("context", context), ("vocab", vocabulary)):
        if count is not None:
            _above_zero(name, count)
    vocab = vocabulary or DEFAULT_VOCABULARY
    # Width per layer: 64 at 125 M parameters, 128 at 175 B (arXiv 2005.14165, table 2.1).
    aspect = 64 * 2 ** min(max(math.log(active / 125e6) / math.log(1400), 0), 1)
    body = max(active - 2 * vocab * (active * aspect / 12) ** (1 / 3), active / 2)
    width = max(16, round((body * aspect / 12) ** (1 / 3) / 16) * 16)
    head_width = 128 if width >= 2048 else 64 if width >= 384 else 16
    heads = max(1, round(width / head_width))
    return Network(
        name=f"{_short(total)} parameters",
        total=total,
        active=active,
        layers=max(1, round(body / 12 / width**2)),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_width=head_width,
        mlp_width=4 * width,
        matrices=2,
        vocabulary=min(vocab, max(2, round(active / width / 2))),
        context=context or DEFAULT_CONTEXT,
        is_exact=False,
        source="usual proportions of a model of that size",
    )


def from_shape(shape: "Shape", *, name: str) -> Network:
    """The network that llmctl itself builds from a shape."""
    return Network(
        name=name,
        total=shape.parameters,
        active=shape.parameters,
        layers=shape.num_layers,
        width=shape.width,
        heads=shape.num_heads,
        kv_heads=shape.num_kv_heads,
        head_width=shape.head_width,
        mlp_width=shape.mlp_width,
        matrices=3 if shape.activation == "swiglu" else 2,
        vocabulary=shape.vocab_size,
        context=shape.context,
        tied=shape.tied_head,
        positions=shape.context if shape.position == "learned" else 0,
        window=shape.window,
        source="its shape",
    )


def published(name: str) -> Network:
    """A published model by name; ConfigError, with the nearest names, for one not in the table.

    >>> f"{published('llama-3-8b').total:,}"
    '8,030,261,248'
    """
    known = {row["name"]: row for row in rows("models")}
    wanted = name.casefold().replace("_", "-").replace(" ", "-").rpartition("/")[2]
    if wanted not in known:
        raise ConfigError(f"no shape of `{name}` is known", hint=suggest(wanted, known))
    return _from_row(known[wanted])


def from_config(config: Mapping[str, Any], *, name: str) -> Network:
    """The network that a Hugging Face config.json describes, counted to the last bias.

    ConfigError where it says no sizes, as that of a model which is no decoder.
    """
    config = config.get("text_config") or config
    kind = str(config.get("model_type", ""))
    said = _Said(config)
    width = said.count("hidden_size", "n_embd", "d_model")
    heads = said.count("num_attention_heads", "n_head", "n_heads")
    inner = said.count(
        "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", default=4 * width
    )
    is_old = kind in OLD
    experts = said.count("num_local_experts", "num_experts", "n_routed_experts", default=0)
    positions = said.count("max_position_embeddings", "n_positions", default=DEFAULT_CONTEXT)
    kv_heads = said.count("num_key_value_heads", "num_kv_heads", default=heads)
    if (
        kind == "falcon"
        and config.get("multi_query")
        and not config.get("new_decoder_architecture")
    ):
        kv_heads = 1
    traits = {
        "name": name,
        "layers": said.count("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        "width": width,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_width": said.count("head_dim", default=width // max(heads, 1)),
        "mlp_width": inner,
        "matrices": 2 if is_old else 3,
        "vocabulary": said.count("vocab_size"),
        "context": positions,
        "tied": bool(config.get("tie_word_embeddings", kind in TIED)),
        "positions": positions + (2 if kind == "opt" else 0) if kind in LEARNED else 0,
        "window": config.get("sliding_window") if config.get("use_sliding_window", True) else None,
        "source": "its config.json",
    }
    extra = {
        "experts": experts,
        "experts_per_token": said.count(
            "num_experts_per_tok", "num_experts_per_token", default=min(experts, 2)
        ),
        "expert_width": said.count("moe_intermediate_size", default=inner),
        "biases": _biases(config, kind),
        "norms": NORMS.get(kind, 2),
        "qk_norm": kind in QK_NORM,
    }
    return _counted(traits, extra)


OLD = frozenset("gpt2 gpt_neo gpt_neox opt bloom mpt falcon gpt_bigcode phi starcoder2".split())
TIED = frozenset("gpt2 gpt_neo gpt_bigcode opt bloom mpt falcon gemma gemma2 gemma3_text".split())
LEARNED = frozenset("gpt2 gpt_neo gpt_bigcode opt".split())
QK_NORM = frozenset("qwen3 qwen3_moe gemma3_text".split())
# Norms of a layer where they are not two.
NORMS = {"phi": 1, "gemma2": 4, "gemma3_text": 4, "falcon": 1}
# Which kinds have biases: in all linear layers, or in queries, keys and values alone.
ALL_BIASES = frozenset("gpt2 gpt_neox opt bloom gpt_bigcode phi starcoder2".split())
QKV_BIASES = frozenset("qwen2 qwen2_moe".split())


class _Said:
    """The whole numbers of a config.json, under whichever of their names it has them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def count(self, *names: str, default: int | None = None) -> int:
        for name in names:
            value = self.config.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
        if default is None:
            raise ConfigError(
                f"config.json does not say `{names[0]}`",
                hint="is it the config.json of a language model?",
            )
        return default


def _biases(config: Mapping[str, Any], kind: str) -> str:
    if kind in ALL_BIASES or config.get("use_bias"):
        return "all"
    return "qkv" if kind in QKV_BIASES or config.get("attention_bias") else "none"


def _from_row(row: Row) -> Network:
    def count(column: str, default: int = 0) -> int:
        return int(number(row, column) or default)

    heads = count("heads")
    traits = {
        "name": row["name"],
        "layers": count("layers"),
        "width": count("width"),
        "heads": heads,
        "kv_heads": count("kv_heads", heads),
        "head_width": count("head_width", count("width") // heads),
        "mlp_width": count("mlp_width"),
        "matrices": count("matrices", 3),
        "vocabulary": count("vocabulary"),
        "context": count("context"),
        "tied": row["tied"] == "yes",
        "positions": count("positions"),
        "window": count("window") or None,
        "source": row["source"],
    }
    extra = {
        "experts": count("experts"),
        "experts_per_token": count("experts_per_token"),
        "expert_width": count("expert_width", count("mlp_width")),
        "biases": row["biases"] or "none",
        "norms": count("norms", 2),
        "qk_norm": row["qk_norm"] == "yes",
    }
    network = _counted(traits, extra)
    stated = {"total": number(row, "total"), "active": number(row, "active")}
    return network._replace(**{key: value for key, value in stated.items() if value})


def _counted(traits: dict[str, Any], extra: Mapping[str, Any]) -> Network:
    """The network with its parameters counted: matrices, biases, norms, embeddings."""
    network = Network(total=0, active=0, **traits)
    width, kv = network.width, network.kv_heads * network.head_width
    attention = width * (2 * network.attention_width + 2 * kv)
    is_old = network.matrices == 2
    fixed = attention + extra["norms"] * width * (2 if is_old else 1)
    if extra["qk_norm"]:
        fixed += 2 * network.head_width
    if extra["biases"] != "none":
        fixed += network.attention_width + 2 * kv
    if extra["biases"] == "all":
        fixed += width + (network.matrices - 1) * network.mlp_width + width
    experts = int(extra["experts"])
    expert = network.matrices * width * int(extra["expert_width"])
    stored = experts * (expert + width) if experts else network.matrices * width * network.mlp_width
    used = int(extra["experts_per_token"]) * expert + experts * width if experts else stored
    tables = network.vocabulary * width * (1 if network.tied else 2) + network.positions * width
    tables += width * (2 if is_old else 1)
    inner = extra["experts_per_token"] * extra["expert_width"] if experts else network.mlp_width
    return network._replace(
        total=tables + network.layers * (fixed + stored),
        active=tables + network.layers * (fixed + used),
        mlp_width=inner,
        experts=experts,
    )


def _above_zero(name: str, count: int) -> None:
    if count < 1:
        raise ConfigError(f"`--{name}` cannot be {count}", hint="it must be at least 1")


def _short(total: float) -> str:
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if total >= size:
            return f"{total / size:.3g} {unit}"
    return f"{total:.3g}"
