"""Float32 masters of the weights: what the optimizer changes, whatever type the model computes in.

A model in float32 is its own master (views, no copy); one in bfloat16 gets float32 copies, which
are written back after each step; of one that lies over several ranks each has its own rows. Fused
weights are cut into their logical matrices (q, k, v; gate, up), because Muon must orthogonalise
each alone.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from llmctl.model.transformer import Kind, Network, logical_matrices
from llmctl.train.distributed.rows import Piece, is_sharded, local_part, whole_of


@dataclass(frozen=True, slots=True)
class Master:
    """One logical matrix or vector: its name, what it does, and its float32 value.

    The value is the rows that lie on this rank, of a matrix of `shape`; which rows lie on another
    says `rows_on`, by how many rows of what holds the matrix every rank has. The matrix may be
    itself a part of one whose shape is `whole`, in which the value begins at `offsets`.
    """

    name: str
    kind: Kind
    value: Tensor
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    first: int = 0
    stride: int | None = None
    offsets: tuple[int, ...] = ()

    def piece(self, value: Tensor | None = None) -> Piece:
        """The value, or another of its size, and where in the whole matrix it lies."""
        return Piece(self.value if value is None else value, self.whole, self.offsets)

    @property
    def cut(self) -> int | None:
        """The dimension by which the whole matrix is cut, if it is."""
        found = (dim for dim, size in enumerate(self.whole) if size != self.shape[dim])
        return next(found, None)

    def rows_on(self, rank: int) -> int:
        """How many of the rows lie on a rank."""
        if self.stride is None:
            return self.shape[0]
        return len(_common(rank * self.stride, self.stride, self.first, self.shape[0]))


class _Place(NamedTuple):
    """Where a master stands: which rows of this rank's part, and which of the whole parameter."""

    parameter: nn.Parameter
    local: slice
    whole: slice


class Split(Protocol):
    """Parameters of which other ranks hold other parts: how a part comes from a whole and back."""

    def surroundings(
        self, name: str, shape: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shape of what a matrix of a parameter is a part of, and where in it that begins."""
        ...

    @property
    def size(self) -> int:
        """How many ranks hold a part of the same matrix."""
        ...

    def part(self, name: str, whole: Tensor) -> Tensor:
        """This rank's part of a parameter."""
        ...

    def whole(self, name: str, part: Tensor) -> Tensor:
        """A parameter put together on every rank, all of which must ask for it."""
        ...

    def of_whole(self, work: Callable[[Tensor], Tensor], dim: int) -> Callable[[Tensor], Tensor]:
        """What works on stacks of whole matrices, for stacks of parts."""
        ...


class Masters:
    """The masters of a float32 model, with the way of gradients in and of new values out.

    The model may change its type afterwards: the masters keep the float32 weights. What is frozen
    (`requires_grad` off) has no master. With a `split` the model is a part of one that is loaded
    and given out whole.
    """

    def __init__(self, model: Network, split: Split | None = None) -> None:
        self.split = split
        self.masters: list[Master] = []
        self._places: list[_Place] = []
        for name, parameter, rows, kind in logical_matrices(model):
            part = local_part(parameter)
            count = rows.stop - rows.start
            mine = _common(part.first, len(part.value), rows.start, count)
            local = slice(mine.start - part.first, mine.stop - part.first)
            shape = (count, *parameter.shape[1:])
            value = part.value.detach()[local]
            whole, offsets = shape, (0,) * len(shape)
            if split is not None:
                whole, offsets = split.surroundings(name.partition("[")[0], shape)
            offsets = (offsets[0] + mine.start - rows.start, *offsets[1:])
            self.masters.append(
                Master(name, kind, value, shape, whole, rows.start, part.stride, offsets)
            )
            self._places.append(_Place(parameter, local, slice(mine.start, mine.stop)))
        self.parameters = list({id(one.parameter): one.parameter for one in self._places}.values())
        self.is_sharded = any(is_sharded(one) for one in self.parameters)

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
        for master, place in zip(self.masters, self._places, strict=True):
            master.value.grad = of[id(place.parameter)][place.local]

    def drop_gradients(self) -> None:
        """Let go of the gradients: those of the next step have room where they were."""
        for value in self.values:
            value.grad = None

    def publish(self) -> None:
        """Write the masters back into the model."""
        if self._are_copies:
            views = [one.parameter.detach()[one.local] for one in self._places]
            torch._foreach_copy_(views, self.values)

    def full_state(self, model: Network) -> Mapping[str, Tensor]:
        """The model's state dict in float32, made of the masters; frozen weights as they are.

        Each tensor is made when it is asked for: of a model that lies over several ranks by all of
        them, in the same order.
        """
        trained = self.trained_state(model) if self._are_copies else {}
        state = dict(model.named_parameters()) if self.is_sharded else model.state_dict()

        def whole(name: str) -> Tensor:
            found = trained[name] if name in trained else whole_of(state[name])
            return found if self.split is None else self.split.whole(name, found)

        return _Made(state, whole)

    def trained_state(self, model: Network) -> Mapping[str, Tensor]:
        """This rank's part of the values of the trained parameters alone, in float32."""
        return self.assembled(model, lambda master: master.value)

    def assembled(
        self, model: Network, of: Callable[[Master], Tensor | None]
    ) -> Mapping[str, Tensor]:
        """A float32 tensor for each trained parameter, put together from one a master.

        It is new, and made when it is asked for.
        """
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        parts: dict[str, list[tuple[_Place, Tensor]]] = {}
        for master, place in zip(self.masters, self._places, strict=True):
            value = of(master)
            if value is not None:
                parts.setdefault(names[id(place.parameter)], []).append((place, value))
        return _Made(parts, lambda name: _put_together(parts[name]))

    def taken_apart(
        self, model: Network, state: Mapping[str, Tensor]
    ) -> Iterator[tuple[Master, Tensor]]:
        """Each master whose parameter `state` has whole, with its part of the tensor there."""
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for master, place in zip(self.masters, self._places, strict=True):
            stored = state.get(names[id(place.parameter)])
            if stored is not None:
                if self.split is not None:
                    stored = self.split.part(names[id(place.parameter)], stored)
                yield master, stored[place.whole]

    @property
    def shares(self) -> list[float]:
        """For each parameter, which share of its gradient is counted here: others count the rest.

        Those that are whole on every rank of a split are counted by all of them.
        """
        of = {
            id(place.parameter): math.prod(master.whole) / math.prod(master.shape)
            for master, place in zip(self.masters, self._places, strict=True)
        }
        parts = max(of.values())
        return [of[id(one)] / parts for one in self.parameters]

    def load(self, model: Network, state: Mapping[str, Tensor]) -> None:
        """Take a float32 state dict as the masters' values and the model's weights."""
        with torch.no_grad():
            for master, value in self.taken_apart(model, state):
                master.value.copy_(value)
        self.publish()


class _Made(Mapping[str, Tensor]):
    """Tensors by name, each made when it is asked for: all at once would fill a device."""

    def __init__(self, names: Collection[str], make: Callable[[str], Tensor]) -> None:
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _put_together(parts: Sequence[tuple[_Place, Tensor]]) -> Tensor:
    """This rank's part of a parameter, in float32, of values of its masters."""
    part = local_part(parts[0][0].parameter).value
    whole = torch.empty_like(part, dtype=torch.float32).detach()
    for place, value in parts:
        whole[place.local] = value
    return whole


def _common(start: int, count: int, other: int, other_count: int) -> range:
    """The rows that two blocks of rows have in common; none of them begin where the first does."""
    first, last = max(start, other), min(start + count, other + other_count)
    return range(first, last) if first < last else range(start, start)


class GradientSum(Protocol):
    """The sums of gradients and of loss over the micro-batches of a step."""

    def add(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> None:
        """Take the gradients away from the parameters and add them; the loss too."""
        ...

    def total(self) -> tuple[list[Tensor], Tensor]:
        """The sums: one tensor a parameter, in float32, and the loss."""
        ...


class RowSum:
    """A sum that adds one micro-batch after the other.

    What must be widened to float32 goes into `buffers`, which whoever trains hands to each step
    anew: new memory of that size takes longer to get than the sum itself.
    """

    def __init__(self, buffers: dict[int, Tensor]) -> None:
        self._total: list[Tensor] = []
        self._loss: Tensor | None = None
        self._buffers = buffers

    def add(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> None:
        """Take the gradients away from the parameters and add them; the loss too."""
        is_first = not self._total
        self._loss = loss if self._loss is None else self._loss + loss
        for place, one in enumerate(parameters):
            gradient = _taken(one)
            if is_first:
                self._total.append(self._begun(place, one, gradient))
            elif gradient is not None:
                self._total[place].add_(gradient)

    def total(self) -> tuple[list[Tensor], Tensor]:
        """The sums; the gradients are good until the buffers are used again."""
        assert self._loss is not None
        return self._total, self._loss

    def _begun(self, place: int, parameter: nn.Parameter, gradient: Tensor | None) -> Tensor:
        if gradient is not None and gradient.dtype == torch.float32:
            return gradient
        if place not in self._buffers:
            part = local_part(parameter).value
            self._buffers[place] = torch.empty_like(part, dtype=torch.float32).detach()
        buffer = self._buffers[place]
        return buffer.zero_() if gradient is None else buffer.copy_(gradient)


class PairwiseSum:
    """A sum that adds as a balanced tree does: equal levels only, log2 buffers.

    Any split of the micro-batches over processes gives the same bits.
    """

    def __init__(self) -> None:
        self._stack: list[tuple[int, list[Tensor]]] = []

    def add(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> None:
        """Take the gradients away from the parameters and add them; the loss too."""
        sums = [loss.float().clone()]
        for one in parameters:
            gradient = _taken(one)
            sums.append(torch.zeros_like(one).float() if gradient is None else gradient.float())
        level = 0
        while self._stack and self._stack[-1][0] == level:
            sums = self._merge(sums)
            level += 1
        self._stack.append((level, sums))

    def total(self) -> tuple[list[Tensor], Tensor]:
        """The sums: one tensor a parameter, in float32, and the loss."""
        _, sums = self._stack.pop()
        while self._stack:
            sums = self._merge(sums)
        return sums[1:], sums[0]

    def _merge(self, sums: list[Tensor]) -> list[Tensor]:
        _, before = self._stack.pop()
        torch._foreach_add_(before, sums)
        return before


def _taken(parameter: nn.Parameter) -> Tensor | None:
    """Take the gradient, or this rank's rows of it, away from a parameter."""
    gradient, parameter.grad = parameter.grad, None
    return None if gradient is None else local_part(gradient).value
