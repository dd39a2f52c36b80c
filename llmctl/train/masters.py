"""Float32 masters of the weights: what the optimizer changes, whatever type the model computes in.

A model in float32 is its own master (views, no copy); one in bfloat16 gets float32 copies, which
are written back after each step. Fused weights are cut into their logical matrices (q, k, v;
gate, up), because Muon must orthogonalise each alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from llmctl.model.transformer import Kind, Network, logical_matrices


@dataclass(frozen=True, slots=True)
class Master:
    """One logical matrix or vector: its name, what it does, and its float32 value."""

    name: str
    kind: Kind
    value: Tensor


class Masters:
    """The masters of a float32 model, with the way of gradients in and of new values out.

    The model may change its type afterwards: the masters keep the float32 weights. What is frozen
    (`requires_grad` off) has no master.
    """

    def __init__(self, model: Network) -> None:
        self.masters: list[Master] = []
        self._places: list[tuple[nn.Parameter, slice]] = []
        for name, parameter, rows, kind in logical_matrices(model):
            self.masters.append(Master(name, kind, parameter.detach()[rows]))
            self._places.append((parameter, rows))
        self.parameters = list({id(one): one for one, _ in self._places}.values())

    @property
    def values(self) -> list[Tensor]:
        """The float32 values, in order."""
        return [master.value for master in self.masters]

    @property
    def _are_copies(self) -> bool:
        return any(one.dtype != torch.float32 for one in self.parameters)

    def assign_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Give each master its part of the gradients, which come one a parameter, in float32."""
        of = {id(one): gradient for one, gradient in zip(self.parameters, gradients, strict=True)}
        for master, (parameter, rows) in zip(self.masters, self._places, strict=True):
            master.value.grad = of[id(parameter)][rows]

    def publish(self) -> None:
        """Write the masters back into the model."""
        if self._are_copies:
            views = [parameter.detach()[rows] for parameter, rows in self._places]
            torch._foreach_copy_(views, self.values)

    def full_state(self, model: Network) -> dict[str, Tensor]:
        """The model's state dict in float32, made of the masters; frozen weights as they are."""
        state = {name: value.detach() for name, value in model.state_dict().items()}
        return state | self.trained_state(model) if self._are_copies else state

    def trained_state(self, model: Network) -> dict[str, Tensor]:
        """The values of the trained parameters alone, in float32."""
        wholes = {
            id(one): torch.empty_like(one, dtype=torch.float32).detach() for one in self.parameters
        }
        for master, (place, rows) in zip(self.masters, self._places, strict=True):
            wholes[id(place)][rows] = master.value
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        return {names[key]: whole for key, whole in wholes.items()}

    def load(self, model: Network, state: dict[str, Tensor]) -> None:
        """Take a float32 state dict as the masters' values and the model's weights."""
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        with torch.no_grad():
            for master, (parameter, rows) in zip(self.masters, self._places, strict=True):
                master.value.copy_(state[names[id(parameter)]][rows])
        self.publish()


class GradientSum(Protocol):
    """The sum of gradients over the micro-batches of a step."""

    def add(self, parameters: Sequence[nn.Parameter]) -> None:
        """Take the gradients away from the parameters and add them."""
        ...

    def total(self) -> list[Tensor]:
        """The sum, one tensor a parameter, in float32."""
        ...


class RowSum:
    """A sum that adds one micro-batch after the other.

    What must be widened to float32 goes into `buffers`, which whoever trains hands to each step
    anew: new memory of that size takes longer to get than the sum itself.
    """

    def __init__(self, buffers: dict[int, Tensor]) -> None:
        self._total: list[Tensor] = []
        self._buffers = buffers

    def add(self, parameters: Sequence[nn.Parameter]) -> None:
        """Take the gradients away from the parameters and add them."""
        is_first = not self._total
        for place, one in enumerate(parameters):
            gradient, one.grad = one.grad, None
            if is_first:
                self._total.append(self._begun(place, one, gradient))
            elif gradient is not None:
                self._total[place].add_(gradient)

    def total(self) -> list[Tensor]:
        """The sum, one tensor a parameter, in float32; good until the buffers are used again."""
        return self._total

    def _begun(self, place: int, parameter: nn.Parameter, gradient: Tensor | None) -> Tensor:
        if gradient is not None and gradient.dtype == torch.float32:
            return gradient
        if place not in self._buffers:
            self._buffers[place] = torch.empty_like(parameter, dtype=torch.float32).detach()
        buffer = self._buffers[place]
        return buffer.zero_() if gradient is None else buffer.copy_(gradient)


class PairwiseSum:
    """A sum that adds as a balanced tree does: equal levels only, log2 buffers.

    Any split of the micro-batches over processes gives the same bits.
    """

    def __init__(self) -> None:
        self._stack: list[tuple[int, list[Tensor]]] = []

    def add(self, parameters: Sequence[nn.Parameter]) -> None:
        """Take the gradients away from the parameters and add them."""
        gradients = [
            torch.zeros_like(one, dtype=torch.float32) if one.grad is None else one.grad.float()
            for one in parameters
        ]
        for one in parameters:
            one.grad = None
        level = 0
        while self._stack and self._stack[-1][0] == level:
            gradients = self._merge(gradients)
            level += 1
        self._stack.append((level, gradients))

    def total(self) -> list[Tensor]:
        """The sum, one tensor a parameter, in float32."""
        _, gradients = self._stack.pop()
        while self._stack:
            gradients = self._merge(gradients)
        return gradients

    def _merge(self, gradients: list[Tensor]) -> list[Tensor]:
        _, before = self._stack.pop()
        torch._foreach_add_(before, gradients)
        return before
