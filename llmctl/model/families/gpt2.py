"""GPT-2: learned positions, biases everywhere, and matrices stored with inputs first."""

from collections.abc import Iterator
from typing import Any

from llmctl.model.family import Family, Fields, Renaming
from llmctl.shapes import Shape


def read(fields: Fields) -> Shape:
    """The shape of a GPT-2."""
    # "gelu_new" is the approximation with tanh; "gelu_pytorch_tanh" computes the same.
    fields.expect("activation_function", "gelu_new", "gelu_pytorch_tanh")
    fields.expect("scale_attn_weights", True)
    fields.expect("scale_attn_by_inverse_layer_idx", False)
    fields.expect("add_cross_attention", False)
    # The last of these computes the same in float32; the others are for training or other heads.
    fields.drop(
        *"attn_pdrop embd_pdrop resid_pdrop n_ctx task_specific_params summary_activation".split(),
        *"summary_first_dropout summary_proj_to_labels summary_type summary_use_proj".split(),
        "reorder_and_upcast_attn",
    )
    width, heads = fields.integer("n_embd"), fields.integer("n_head")
    return Shape(
        family="gpt2",
        vocab_size=fields.integer("vocab_size"),
        num_layers=fields.integer("n_layer"),
        width=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_width=width // max(heads, 1),
        mlp_width=fields.integer("n_inner", 4 * width),
        context=fields.integer("n_positions"),
        norm="layer",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        position="learned",
        activation="gelu_tanh",
        bias="all",
        tied_head=fields.flag("tie_word_embeddings", True),
        qk_norm=False,
    )


def write(shape: Shape) -> dict[str, Any]:
    """The config.json of a GPT-2 that drops nothing out."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": shape.vocab_size,
        "n_layer": shape.num_layers,
        "n_embd": shape.width,
        "n_head": shape.num_heads,
        "n_inner": shape.mlp_width,
        "n_positions": shape.context,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": shape.norm_eps,
        "tie_word_embeddings": shape.tied_head,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def renamings(shape: Shape) -> Iterator[Renaming]:
    """Every parameter of ours and where it stands in a GPT-2 file."""
    yield Renaming("embedding.weight", ("transformer.wte.weight",))
    yield Renaming("positions.weight", ("transformer.wpe.weight",))
    for layer in range(shape.num_layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        for name, stored in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
            yield from _pair(f"{ours}.{name}", f"{theirs}.{stored}", transposed=False)
        for name, stored in (
            ("attention.qkv", "attn.c_attn"),
            ("attention.out", "attn.c_proj"),
            ("mlp.up", "mlp.c_fc"),
            ("mlp.down", "mlp.c_proj"),
        ):
            yield from _pair(f"{ours}.{name}", f"{theirs}.{stored}", transposed=True)
    yield from _pair("norm", "transformer.ln_f", transposed=False)
    if not shape.tied_head:
        yield Renaming("head.weight", ("lm_head.weight",))


def canonical(name: str, shape: Shape) -> str | None:
    """Old files leave out the first word of a name, and carry masks and copies of a tied head."""
    if name.endswith((".attn.bias", ".attn.masked_bias")):
        return None
    if name == "lm_head.weight":
        return None if shape.tied_head else name
    return name if name.startswith("transformer.") else f"transformer.{name}"


def _pair(ours: str, theirs: str, *, transposed: bool) -> Iterator[Renaming]:
    yield Renaming(f"{ours}.weight", (f"{theirs}.weight",), transposed)
    yield Renaming(f"{ours}.bias", (f"{theirs}.bias",))


FAMILY = Family(read=read, write=write, renamings=renamings, canonical=canonical)
