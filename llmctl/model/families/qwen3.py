"""Qwen3: a Llama whose queries and keys are normalised, with a head width of its own choice."""

from typing import Any

from llmctl.model.families.llama import (
    attention_bias,
    canonical,
    common_config,
    common_traits,
    renamings,
)
from llmctl.model.family import Family, Fields
from llmctl.shapes import Shape


def read(fields: Fields) -> Shape:
    """The shape of a Qwen3 that sees all of its context in every layer."""
    # Left out, it is 128 here, and not the share of a head as in Llama.
    head_width = fields.integer("head_dim", 128)
    bias = attention_bias(fields)
    fields.expect("use_sliding_window", False)
    fields.drop("sliding_window", "max_window_layers")
    traits: dict[str, Any] = common_traits(fields) | {"head_width": head_width}
    fields.expect_each("layer_types", "full_attention")
    return Shape(family="qwen3", qk_norm=True, bias=bias, **traits)


def write(shape: Shape) -> dict[str, Any]:
    """The config.json of a Qwen3."""
    return {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": shape.bias == "attention",
        "use_sliding_window": False,
        **common_config(shape),
    }


FAMILY = Family(read=read, write=write, renamings=renamings, canonical=canonical)
