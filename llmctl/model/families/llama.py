"""Llama, and what is made like it: Mistral (its window included), SmolLM, TinyLlama and others."""

from collections.abc import Iterator
from typing import Any

from llmctl.model.family import Family, Fields, Renaming
from llmctl.shapes import Shape


def read(fields: Fields) -> Shape:
    """The shape of a Llama or a Mistral."""
    fields.expect("mlp_bias", False)
    window = fields.window("sliding_window") if fields.model_type == "mistral" else None
    return Shape(family="llama", qk_norm=False, window=window, **common_traits(fields))


def common_traits(fields: Fields) -> dict[str, Any]:
    """What every descendant of Llama says in the same words."""
    fields.expect("hidden_act", "silu")
    fields.expect("attention_bias", False)
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
        "rope_base": fields.rope_base(),
        "tied_head": fields.flag("tie_word_embeddings", False),
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
        "attention_bias": False,
        "mlp_bias": False,
        **config,
    }


def common_config(shape: Shape) -> dict[str, Any]:
    """The counterpart of `common_traits`, the rotary base in new words and in old."""
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
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "tie_word_embeddings": shape.tied_head,
        "attention_dropout": 0.0,
    }


def renamings(shape: Shape) -> Iterator[Renaming]:
    """Every parameter of ours and where it stands in a Llama-like file."""
    yield Renaming("embedding.weight", ("model.embed_tokens.weight",))
    for layer in range(shape.num_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        qkv = tuple(f"{attention}.{part}_proj.weight" for part in "qkv")
        yield Renaming(f"{ours}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",))
        yield Renaming(f"{ours}.attention.qkv.weight", qkv)
        yield Renaming(f"{ours}.attention.out.weight", (f"{attention}.o_proj.weight",))
        if shape.qk_norm:
            qk_norm = (f"{attention}.q_norm.weight", f"{attention}.k_norm.weight")
            yield Renaming(f"{ours}.attention.qk_norm.weight", qk_norm)
        yield Renaming(f"{ours}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",))
        gate_up = (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight")
        yield Renaming(f"{ours}.mlp.gate_up.weight", gate_up)
        yield Renaming(f"{ours}.mlp.down.weight", (f"{mlp}.down_proj.weight",))
    yield Renaming("norm.weight", ("model.norm.weight",))
    if not shape.tied_head:
        yield Renaming("head.weight", ("lm_head.weight",))


def canonical(name: str, shape: Shape) -> str | None:
    """Old files carry the rotary frequencies, and some a copy of a tied head."""
    if name.endswith(".rotary_emb.inv_freq") or (shape.tied_head and name == "lm_head.weight"):
        return None
    return name


FAMILY = Family(read=read, write=write, renamings=renamings, canonical=canonical)
