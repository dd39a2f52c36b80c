"""Qwen2 and Qwen2.5: a Llama whose queries, keys and values have biases."""

from typing import Any

from llmctl.model.families.llama import canonical, common_config, common_traits, renamings
from llmctl.model.family import Family, Fields
from llmctl.shapes import Shape


def read(fields: Fields) -> Shape:
    """The shape of a Qwen2 that sees all of its context in every layer."""
    fields.expect("use_sliding_window", False)
    fields.expect("use_mrope", False)
    fields.expect("attention_bias", True)
    fields.drop("sliding_window", "max_window_layers")
    fields.expect_each("layer_types", "full_attention")
    return Shape(family="qwen2", qk_norm=False, bias="qkv", **common_traits(fields))


def write(shape: Shape) -> dict[str, Any]:
    """The config.json of a Qwen2."""
    return {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "use_sliding_window": False,
        **common_config(shape),
    }


FAMILY = Family(read=read, write=write, renamings=renamings, canonical=canonical)
