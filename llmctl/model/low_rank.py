"""A linear layer, frozen, + thin matrices that are trained in its place: LoRA, DoRA, QLoRA.

LoRA (arXiv 2106.09685) adds to a matrix W a product of two thin ones, W + s BA. DoRA (arXiv
2402.09353) also trains the length of each row: m (W + s BA) / |W + s BA|. QLoRA
(arXiv 2305.14314) keeps W in four bits meanwhile. Parts of a fused projection are adapted each on
its own.

    D inputs, O outputs, R rank
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmctl.errors import ConfigError
from llmctl.model.four_bit import FourBit
from llmctl.registry import suggest

TARGETS = ("query", "key", "value", "out", "gate", "up", "down")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """How large adapters are and on which matrices they stand; a target that a model lacks is moot.

    The update is scaled by `alpha / rank`. Dropout falls on what goes into an adapter and draws
    from torch's global generator: who trains seeds that before each step, so that a run that was
    broken off drops the same numbers again. Raises ConfigError for what makes no sense.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = TARGETS
    dora: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"adapters cannot have rank {self.rank}", hint="8 is usual")
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"adapters cannot have alpha {self.alpha}", hint="16 is usual")
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"adapters cannot drop a share of {self.dropout}", hint="from 0 to below 1"
            )
        for target in self.targets:
            if target not in TARGETS:
                raise ConfigError(
                    f"there is no matrix `{target}` to adapt", hint=suggest(target, TARGETS)
                )


def settings_of(knobs: Any, *, dora: bool = False) -> AdapterSettings:
    """Adapters as knobs describe them: `targets` are named as `query,value`, all where none is."""
    named = knobs.targets
    return AdapterSettings(
        rank=knobs.rank,
        alpha=knobs.alpha,
        dropout=knobs.dropout,
        targets=TARGETS if named is None else tuple(one.strip() for one in named.split(",")),
        dora=dora,
    )


class LowRank(nn.Module):
    """The adapter of some rows: A (R, D), B (O, R) and, for DoRA, the lengths of the rows (O)."""

    def __init__(self, weight_OD: Tensor, settings: AdapterSettings) -> None:
        super().__init__()
        outputs, inputs = weight_OD.shape
        device = weight_OD.device
        self.scale = settings.alpha / settings.rank
        self.a = nn.Parameter(torch.empty(settings.rank, inputs, device=device))
        self.b = nn.Parameter(torch.zeros(outputs, settings.rank, device=device))
        self.magnitude = None
        if settings.dora:
            self.magnitude = nn.Parameter(torch.linalg.vector_norm(weight_OD.float(), dim=1))

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw A as PEFT does, uniformly up to 1 / sqrt(D); B is zero, so nothing changes yet."""
        bound = 1 / math.sqrt(self.a.shape[1])
        drawn_RD = torch.empty(self.a.shape).uniform_(-bound, bound, generator=generator)
        self.a.copy_(drawn_RD)

    def forward(self, x: Tensor, y: Tensor, weight_OD: Tensor | None) -> Tensor:
        """`y`, what the frozen rows made of their input, adapted; `x` is that input, thinned.

        Only DoRA looks at the rows themselves.
        """
        y = y + self.scale * F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))
        if self.magnitude is None or weight_OD is None:
            return y
        # The gradient takes the length as a constant (DoRA, section 4.3).
        with torch.no_grad():
            length_O = torch.linalg.vector_norm(self._updated(weight_OD), dim=1)
        return y * (self.magnitude / length_O).to(y.dtype)

    def merged(self, weight_OD: Tensor) -> Tensor:
        """The float32 rows that compute the same without an adapter."""
        updated_OD = self._updated(weight_OD)
        if self.magnitude is None:
            return updated_OD
        return updated_OD * (self.magnitude / torch.linalg.vector_norm(updated_OD, dim=1))[:, None]

    def _updated(self, weight_OD: Tensor) -> Tensor:
        return weight_OD.float() + self.scale * (self.b @ self.a)


class Adapted(nn.Module):
    """A frozen linear layer, its parameters under their own names, and the adapters of its parts.

    `rows` are all parts in order, `chosen` those that get an adapter.
    """

    weight: Tensor
    bias: nn.Parameter | None
    four_bit: FourBit | None

    def __init__(
        self,
        linear: nn.Linear,
        rows: Mapping[str, int],
        chosen: Collection[str],
        settings: AdapterSettings,
    ) -> None:
        super().__init__()
        self.weight = linear.weight
        self.register_parameter("bias", linear.bias)
        self.four_bit = None
        self.dropout = settings.dropout
        self.rows = dict(rows)
        weights = dict(zip(rows, self.weight.detach().split([*rows.values()]), strict=True))
        self.parts = nn.ModuleDict({name: LowRank(weights[name], settings) for name in chosen})

    def forward(self, x: Tensor) -> Tensor:
        rows = [*self.rows.values()]
        thinned = F.dropout(x, self.dropout, self.training)
        if self.four_bit is None:
            y, weights = F.linear(x, self.weight), self.weight.split(rows)
        else:
            y, weights = self.four_bit(x), [None] * len(rows)
        adapted = [
            self.parts[name](thinned, piece, weight_OD) if name in self.parts else piece
            for name, piece, weight_OD in zip(
                self.rows, y.split(rows, dim=-1), weights, strict=True
            )
        ]
        y = adapted[0] if len(adapted) == 1 else torch.cat(adapted, dim=-1)
        return y if self.bias is None else y + self.bias

    @property
    def adapters(self) -> dict[str, LowRank]:
        """The adapters by the names of their parts."""
        return cast("dict[str, LowRank]", dict(self.parts.items()))

    def fold(self, device: torch.device) -> None:
        """Keep the frozen weight in four bits from now on, for good: it cannot be merged."""
        lengths = [one.magnitude for one in self.adapters.values() if one.magnitude is not None]
        assert not lengths, "DoRA looks at its rows, whole, at every step"
        self.four_bit = FourBit(self.weight.to(device))
        self.register_parameter("weight", None)

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """The plain layer that computes the same; the weight is changed in place."""
        adapters = self.adapters
        for name, rows_OD in zip(self.rows, self.weight.split([*self.rows.values()]), strict=True):
            if name in adapters:
                rows_OD.copy_(adapters[name].merged(rows_OD))
        outputs, inputs = self.weight.shape
        linear = nn.Linear(inputs, outputs, bias=self.bias is not None, device="meta")
        linear.weight = self.weight
        linear.register_parameter("bias", self.bias)
        return linear
