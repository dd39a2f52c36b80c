"""Llama, and what is made like it: Mistral (its window included), SmolLM, TinyLlama and others."""

from collections.abc import Iterator
from typing import Any

from llmctl.model.family import Family, Fields, Renaming
from llmctl.shapes import Bias, RopeScaling, Shape

# Which biases a shape must have for a matrix to have one.
ANY_BIAS, OUT_BIAS, MLP_BIAS = ("qkv", "attention", "all"), ("attention", "all"), ("all",)


def read(fields: Fields) -> Shape:
    """The shape of a Llama or a Mistral."""
    fields.expect("rope_interleaved", False)
    if fields.model_type == "mistral":
        fields.expect("attention_bias", False)
        fields.expect("mlp_bias", False)
        window = fields.window("sliding_window")
        return Shape(family="llama", qk_norm=False, window=window, **common_traits(fields))
    bias = attention_bias(fields)
    if bias == "attention" and fields.flag("mlp_bias", False):
        bias = "all"
    fields.expect("mlp_bias", False)
    return Shape(family="llama", qk_norm=False, bias=bias, **common_traits(fields))


def attention_bias(fields: Fields) -> Bias:
    """Whether all four projections of the attention have biases, or none."""
    return "attention" if fields.flag("attention_bias", False) else "none"


def common_traits(fields: Fields, *, activations: tuple[str, ...] = ("silu",)) -> dict[str, Any]:
    """What every descendant of Llama says in the same words."""
    fields.expect("hidden_act", *activations)
    width, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    return {
        "vocab_size": fields.integer("vocab_size"),
        "num_layers": fields.integer("num_hidden_layers"),
        "width": width,
        "num_heads": heads,
        "num_kv_heads": fields.integer("num_key_value_heads", heads),
        "head_width": fields.integer("head_dim", width // max(heads, 1)),
        "mlp_width": fields.integer("intermediate_size"),
        "context": fields.integer("max_position_embeddings"),
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "tied_head": fields.flag("tie_word_embeddings", False),
        **fields.rope(),
    }


def write(shape: Shape) -> dict[str, Any]:
    """The config.json of a Llama, or of a Mistral where the shape has a window."""
    config = common_config(shape)
    if shape.window is not None:
        return {
            "model_type": "mistral",
            "architectures": ["MistralForCausalLM"],
            "sliding_window": shape.window,
            **config,
        }
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": shape.bias in ("attention", "all"),
        "mlp_bias": shape.bias == "all",
        **config,
    }


def common_config(shape: Shape) -> dict[str, Any]:
    """The counterpart of `common_traits`, rotary positions in new words and in old."""
    scaling = _written(shape.rope_scaling)
    return {
        "vocab_size": shape.vocab_size,
        "num_hidden_layers": shape.num_layers,
        "hidden_size": shape.width,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.mlp_width,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_base,
        **({"rope_scaling": scaling} if scaling else {}),
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base, **scaling},
        "tie_word_embeddings": shape.tied_head,
        "attention_dropout": 0.0,
    }


def _written(scaling: RopeScaling | None) -> dict[str, Any]:
    if scaling is None:
        return {}
    if scaling.original is None:
        return {"rope_type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low,
        "high_freq_factor": scaling.high,
        "original_max_position_embeddings": scaling.original,
    }


def renamings(shape: Shape) -> Iterator[Renaming]:
    """Every parameter of ours and where it stands in a Llama-like file."""
    yield Renaming("embedding.weight", ("model.embed_tokens.weight",))
    for layer in range(shape.num_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        yield Renaming(f"{ours}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",))
        if shape.qk_norm:
            qk_norm = (f"{attention}.q_norm.weight", f"{attention}.k_norm.weight")
            yield Renaming(f"{ours}.attention.qk_norm.weight", qk_norm)
        yield Renaming(f"{ours}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",))
        for name, stored, biased in (
            ("attention.qkv", [f"{attention}.{part}_proj" for part in "qkv"], ANY_BIAS),
            ("attention.out", [f"{attention}.o_proj"], OUT_BIAS),
            ("mlp.gate_up", [f"{mlp}.gate_proj", f"{mlp}.up_proj"], MLP_BIAS),
            ("mlp.down", [f"{mlp}.down_proj"], MLP_BIAS),
        ):
            for kind in ("weight", "bias") if shape.bias in biased else ("weight",):
                yield Renaming(f"{ours}.{name}.{kind}", tuple(f"{one}.{kind}" for one in stored))
    yield Renaming("norm.weight", ("model.norm.weight",))
    if not shape.tied_head:
        yield Renaming("head.weight", ("lm_head.weight",))


def canonical(name: str, shape: Shape) -> str | None:
    """Old files carry the rotary frequencies, and some a copy of a tied head."""
    if name.endswith(".rotary_emb.inv_freq") or (shape.tied_head and name == "lm_head.weight"):
        return None
    return name


FAMILY = Family(read=read, write=write, renamings=renamings, canonical=canonical)
