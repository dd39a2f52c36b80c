"""Token ids -> logits: one decoder for every family, in training and, with a cache, in generation.

A `Shape` says all that differs between families; the names of parameters here are ours alone.
Rotary positions pair the first half of a head with the second, as Hugging Face's models do, so
weights come and go without permutation. Knows nothing of devices, processes, loss or text.

    B batch, T time (queries), S seen (keys: cached and new), D width, V vocabulary
    N heads, K key and value heads, M = N + K, H head width, C context
"""

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmctl.model.attention import Mask, Parts, Slices, attend, positions_within, row_mask
from llmctl.model.cache import KVCache
from llmctl.shapes import GATED, Shape

Kind = Literal["matrix", "embedding", "head", "vector"]


class View(NamedTuple):
    """What all layers of one pass share: angles of the rotary positions, and who sees whom.

    `mask` is in a form that `attend` takes; without one each query sees all keys up to its own
    where `is_causal`, else all.
    """

    cos_T1H: Tensor | None
    sin_T1H: Tensor | None
    mask: Mask | None
    is_causal: bool
    cache: KVCache | None
    slices: Slices | None = None
    parts: Parts | None = None

    def enter(self, x: Tensor) -> Tensor:
        """What goes into a matrix of which a part may be here."""
        return x if self.parts is None else self.parts.enter(x)

    def leave(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """What a layer gives whose matrix is as wide as the part that may be here."""
        if self.parts is None:
            return linear(x)
        y = self.parts.leave(F.linear(x, linear.weight))
        # Added once, and not with each part; nn.Linear's type says that there always is one.
        bias = cast("Tensor | None", linear.bias)
        return y if bias is None else y + bias


class HeadNorm(nn.Module):
    """RMS normalisation of each head's queries and keys together, with gains for each.

    The gains of queries and of keys lie one after the other, as in the fused projection.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = (shape.num_heads, shape.num_kv_heads)
        self.eps = shape.norm_eps
        self.weight = nn.Parameter(torch.ones(2 * shape.head_width))

    def forward(self, qk_BTMH: Tensor, view: View) -> Tensor:
        gains = zip(view.enter(self.weight).chunk(2), self.heads, strict=True)
        gains_MH = torch.cat([gain_H.expand(heads, -1) for gain_H, heads in gains])
        return F.rms_norm(qk_BTMH, qk_BTMH.shape[-1:], eps=self.eps) * gains_MH


class Attention(nn.Module):
    """Grouped-query attention with one fused projection for queries, keys and values.

    Queries and keys go through normalisation and rotation as one tensor of M = N + K heads.
    """

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = (shape.num_heads, shape.num_kv_heads)
        self.head_width = shape.head_width
        self.qkv = nn.Linear(shape.width, sum(shape.qkv_widths), bias=shape.bias != "none")
        self.qk_norm = HeadNorm(shape) if shape.qk_norm else None
        out_bias = shape.bias in ("attention", "all")
        self.out = nn.Linear(shape.attention_width, shape.width, bias=out_bias)

    def forward(self, x_BTD: Tensor, view: View) -> Tensor:
        qkv = self.qkv(view.enter(x_BTD)).unflatten(-1, (-1, self.head_width))
        qk_BTMH, v_BTKH = qkv.split((sum(self.heads), self.heads[1]), dim=-2)
        if self.qk_norm is not None:
            qk_BTMH = self.qk_norm(qk_BTMH, view)
        if view.cos_T1H is not None and view.sin_T1H is not None:
            qk_BTMH = rotated(qk_BTMH, view.cos_T1H, view.sin_T1H)
        q_BTNH, k_BTKH = qk_BTMH.split(self.heads, dim=-2)
        if view.slices is not None:
            q_BTNH, k_BTKH, v_BTKH = view.slices.to_heads(q_BTNH, k_BTKH, v_BTKH)
        k_BKSH, v_BKSH = k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2)
        if view.cache is not None:
            k_BKSH, v_BKSH = view.cache.append(self.layer, k_BKSH, v_BKSH)
        y_BNTH = attend(q_BTNH.transpose(1, 2), k_BKSH, v_BKSH, view.mask, is_causal=view.is_causal)
        y_BTNH = y_BNTH.transpose(1, 2)
        if view.slices is not None:
            y_BTNH = view.slices.to_time(y_BTNH)
        return view.leave(y_BTNH.flatten(-2), self.out)


class Gated(nn.Module):
    """A gated feed-forward layer (arXiv 2002.05202), gate and input projected at once.

    SwiGLU, or GEGLU with the tanh approximation of GELU.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.is_swish = shape.activation == "swiglu"
        has_bias = shape.bias == "all"
        self.gate_up = nn.Linear(shape.width, 2 * shape.mlp_width, bias=has_bias)
        self.down = nn.Linear(shape.mlp_width, shape.width, bias=has_bias)

    def forward(self, x_BTD: Tensor, view: View) -> Tensor:
        gate, up = self.gate_up(view.enter(x_BTD)).chunk(2, dim=-1)
        opened = F.silu(gate) if self.is_swish else F.gelu(gate, approximate="tanh")
        return view.leave(opened * up, self.down)


class GeluTanh(nn.Module):
    """GPT-2's feed-forward layer, with the tanh approximation of GELU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        has_bias = shape.bias == "all"
        self.up = nn.Linear(shape.width, shape.mlp_width, bias=has_bias)
        self.down = nn.Linear(shape.mlp_width, shape.width, bias=has_bias)

    def forward(self, x_BTD: Tensor, view: View) -> Tensor:
        opened = F.gelu(self.up(view.enter(x_BTD)), approximate="tanh")
        return view.leave(opened, self.down)


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normalised first and added to the stream."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.attention_norm = norm(shape)
        self.attention = Attention(shape, layer)
        self.mlp_norm = norm(shape)
        self.mlp = Gated(shape) if shape.activation in GATED else GeluTanh(shape)

    def forward(self, x_BTD: Tensor, view: View) -> Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), view)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD), view)


def _undefined(rows: int, width: int) -> nn.Embedding:
    """An embedding without values: to draw them on no device takes torch's compiler."""
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


class Transformer(nn.Module):
    """The decoder of a shape; weights are undefined until `init_weights` or a load.

    Make large ones without touching memory twice: `fresh` does. Where others hold `parts` of its
    matrices, its shape is that of the part that is here.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.parts: Parts | None = None
        self.embedding = _undefined(shape.vocab_size, shape.width)
        self.positions = None
        if shape.position == "learned":
            self.positions = _undefined(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape, layer) for layer in range(shape.num_layers))
        self.norm = norm(shape)
        self.head = None
        if not shape.tied_head:
            self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    @property
    def head_weight(self) -> Tensor:
        """The matrix (V, D) that turns hidden states into logits: the embedding's where tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(
        self,
        ids_BT: Tensor,
        *,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """The logits (B, T, V) of the token after each, in the type of the weights."""
        return self.logits(self.hidden(ids_BT, segments_BT=segments_BT, cache=cache))

    def logits(self, x_BTD: Tensor) -> Tensor:
        """The logits of hidden states: apart, because a loss or a sampler rarely wants them all."""
        return F.linear(x_BTD, self.head_weight) if self.head is None else self.head(x_BTD)

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
        slices: Slices | None = None,
    ) -> Tensor:
        """The states (B, T, D) after the last norm.

        A token sees those before it in its row and, given `segments_BT`, only those of its own
        segment; segments are numbered in the order in which they stand. With a `cache` the ids go
        on from what it holds, and it holds them too afterwards. Both at once make no sense. With
        `slices` the ids are whole rows, and the states those of one slice of their time.
        """
        time = ids_BT.shape[1]
        view, positions = self._view(time, segments_BT, cache, slices)
        if slices is not None:
            ids_BT = ids_BT[:, slices.mine(time)]
        x_BTD = self._embedded(ids_BT, positions)
        for block in self.blocks:
            x_BTD = block(x_BTD, view)
        if cache is not None:
            cache.advance(time)
        return self.norm(x_BTD)

    def lower(self, ids_BT: Tensor, layers: int) -> Tensor:
        """The stream (B, T, D) behind the first `layers` blocks, for `upper` to go on from."""
        view, positions = self._view(ids_BT.shape[1], None, None)
        x_BTD = self._embedded(ids_BT, positions)
        for block in self.blocks[:layers]:
            x_BTD = block(x_BTD, view)
        return x_BTD

    def upper(self, x_BTD: Tensor, layers: int) -> Tensor:
        """From the stream behind the first `layers` blocks to the states after the last norm."""
        view, _ = self._view(x_BTD.shape[1], None, None)
        for block in self.blocks[layers:]:
            x_BTD = block(x_BTD, view)
        return self.norm(x_BTD)

    def _embedded(self, ids_BT: Tensor, positions: slice | Tensor) -> Tensor:
        x_BTD = self.embedding(ids_BT)
        if self.shape.scaled_embedding:
            # Rounded as the model computes, which is how those that need it were trained.
            x_BTD = x_BTD * torch.tensor(self.shape.width**0.5, dtype=x_BTD.dtype).item()
        if self.positions is not None:
            x_BTD = x_BTD + self.positions.weight[positions]
        return x_BTD

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw all weights: the same from a seed on every device, in every type before rounding."""
        parameters = dict(self.named_parameters())
        for name, value in self.drawn_weights(seed):
            parameters[name].copy_(value)

    def drawn_weights(self, seed: int, *, std: float = 0.02) -> Iterator[tuple[str, Tensor]]:
        """The weights to begin with, by name, each whole and in float32 on the host.

        The projections back into the stream begin at zero, so that at the start each layer passes
        its input on (worth 0.010 of loss in our ablation); the other matrices are normal.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            value = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
            if name.endswith((".bias", ".out.weight", ".down.weight")):
                yield name, value.zero_()
            elif parameter.ndim == 1:
                yield name, value.fill_(1.0)
            else:
                yield name, value.normal_(0.0, std, generator=generator)

    def _view(
        self,
        time: int,
        segments_BT: Tensor | None,
        cache: KVCache | None,
        slices: Slices | None = None,
    ) -> tuple[View, slice | Tensor]:
        like = self.embedding.weight
        if cache is not None:
            positions = cache.positions(time)
            mask = cache.mask(time, self.shape.window, like.device)
        else:
            positions = slice(0, time)
            # Rotary positions are relative, so only learned ones must begin anew in each segment.
            if segments_BT is not None and self.positions is not None:
                positions = positions_within(segments_BT)
            mask = row_mask(time, self.shape, segments_BT, like)
        if slices is not None:
            mine = slices.mine(time)
            positions = mine if isinstance(positions, slice) else positions[:, mine]
        cos = sin = None
        if self.shape.position == "rope":
            cos, sin = rotation(positions, self.shape, like=like)
        is_causal = mask is None and time > 1
        return View(cos, sin, mask, is_causal, cache, slices, self.parts), positions


def norm(shape: Shape) -> nn.Module:
    """The normalisation over the width that a shape asks for."""
    if shape.norm == "rms":
        return nn.RMSNorm(shape.width, shape.norm_eps)
    return nn.LayerNorm(shape.width, shape.norm_eps, bias=shape.bias == "all")


def rotation(positions: slice | Tensor, shape: Shape, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, (T, 1, H) or (B, T, 1, H), that `rotated` turns heads by.

    Computed in float32 each time: a table would round with the model, and be long for nothing.
    """
    if isinstance(positions, slice):
        positions = torch.arange(positions.start, positions.stop, device=like.device)
    angles = positions[..., None, None] * frequencies(shape, like.device)
    cos, sin = angles.cos().to(like.dtype), angles.sin().to(like.dtype)
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def frequencies(shape: Shape, device: torch.device) -> Tensor:
    """How far each pair of a head turns from one token to the next, in radians (H / 2)."""
    exponents = torch.arange(0, shape.head_width, 2, device=device) / shape.head_width
    turns = shape.rope_base**-exponents
    scaling = shape.rope_scaling
    if scaling is None:
        return turns
    if scaling.original is None:
        return turns / scaling.factor
    waves = scaling.original * turns / (2 * math.pi)
    kept = ((waves - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return turns * (kept + (1 - kept) / scaling.factor)


def rotated(x_BTMH: Tensor, cos_T1H: Tensor, sin_T1H: Tensor) -> Tensor:
    """Rotary positions (arXiv 2104.09864): each pair (i, i + H/2) turned by its angle.

    The sines come with the sign of the half that they multiply. Halves change places by `flip` in
    float32: what torch 2.13 makes of the gradient of `roll` goes number by number, a tenth of a
    step on a CPU. In bfloat16 what it makes of `flip`, and of `cat`, is not finite.
    """
    half = x_BTMH.shape[-1] // 2
    if x_BTMH.dtype == torch.float32:
        swapped_BTMH = x_BTMH.unflatten(-1, (2, half)).flip(-2).flatten(-2)
    else:
        swapped_BTMH = x_BTMH.roll(half, dims=-1)
    return x_BTMH * cos_T1H + swapped_BTMH * sin_T1H


def fresh(shape: Shape, seed: int, *, device: torch.device | str = "cpu") -> Transformer:
    """A model with newly drawn float32 weights; torch's global generator is left alone."""
    with torch.device("meta"):
        model = Transformer(shape)
    allocate(model, device)
    model.init_weights(seed)
    return model


def allocate(model: nn.Module, device: torch.device | str) -> None:
    """Room on a device, without values, for the tensors of a model that lies on none.

    As `Module.to_empty`, but that takes a part of torch's compiler, and half a second to import it.
    """
    for module in model.modules():
        for name, one in module.named_parameters(recurse=False):
            room = torch.empty(one.shape, dtype=one.dtype, device=device)
            setattr(module, name, nn.Parameter(room, requires_grad=one.requires_grad))
        for name, one in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(one.shape, dtype=one.dtype, device=device))


class LogicalMatrix(NamedTuple):
    """A matrix that means one thing: some rows of a parameter, all of them where it is not fused.

    `kind` says how an optimizer should see it: a hidden `matrix`, an `embedding`, the `head` or a
    `vector` (gains and biases).
    """

    name: str
    parameter: nn.Parameter
    rows: slice
    kind: Kind


class Network(Protocol):
    """A Transformer, or a module around one: what can be trained."""

    shape: Shape

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters, those that are frozen too."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Their values by name."""
        ...


def logical_matrices(model: Network) -> Iterator[LogicalMatrix]:
    """All numbers that are trained, once; fused parameters apart: query, key, value; gate, up."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        kind = _kind(name, parameter)
        parts = fused_parts(model.shape, name) if kind == "matrix" else {}
        if not parts:
            yield LogicalMatrix(name, parameter, slice(0, parameter.shape[0]), kind)
            continue
        start = 0
        for part, rows in parts.items():
            yield LogicalMatrix(f"{name}[{part}]", parameter, slice(start, start + rows), kind)
            start += rows


def fused_parts(shape: Shape, name: str) -> dict[str, int]:
    """The names and row counts of what a fused parameter holds, in order; empty for any other."""
    module = name.split(".")[-2]
    if module == "qkv":
        return dict(zip(("query", "key", "value"), shape.qkv_widths, strict=True))
    if module == "qk_norm":
        return {"query": shape.head_width, "key": shape.head_width}
    if module == "gate_up":
        return {"gate": shape.mlp_width, "up": shape.mlp_width}
    return {}


def _kind(name: str, parameter: nn.Parameter) -> Kind:
    if parameter.ndim == 1:
        return "vector"
    if name in ("head.weight", "score.weight"):
        return "head"
    return "matrix" if "blocks." in name else "embedding"
