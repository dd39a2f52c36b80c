"""Gemma, the first: a Llama with a GELU gate, scaled embeddings, and gains counted from one."""

from collections.abc import Iterator
from typing import Any

from llmctl.model.families import llama
from llmctl.model.family import Family, Fields, Renaming
from llmctl.shapes import Shape


def read(fields: Fields) -> Shape:
    """The shape of a Gemma."""
    # Its first files say "gelu" and mean the approximation with tanh, as its authors compute it.
    fields.expect("hidden_activation", "gelu_pytorch_tanh")
    fields.expect("attention_bias", False)
    fields.expect("use_bidirectional_attention", False)
    # Left out, these are not what they are in Llama.
    own: dict[str, Any] = {
        "head_width": fields.integer("head_dim", 256),
        "tied_head": fields.flag("tie_word_embeddings", True),
    }
    traits = llama.common_traits(fields, activations=("gelu", "gelu_pytorch_tanh"))
    return Shape(
        family="gemma", qk_norm=False, activation="geglu", scaled_embedding=True, **(traits | own)
    )


def write(shape: Shape) -> dict[str, Any]:
    """The config.json of a Gemma."""
    return {
        **llama.common_config(shape),
        "model_type": "gemma",
        "architectures": ["GemmaForCausalLM"],
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
    }


def renamings(shape: Shape) -> Iterator[Renaming]:
    """Llama's table, but that a gain of one is stored as zero."""
    for renaming in llama.renamings(shape):
        is_gain = renaming.ours.endswith("norm.weight")
        yield renaming._replace(offset=1.0) if is_gain else renaming


FAMILY = Family(read=read, write=write, renamings=renamings, canonical=llama.canonical)
