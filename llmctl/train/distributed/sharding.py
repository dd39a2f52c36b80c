"""A model laid over several ranks by PyTorch's FSDP2.

Each block's parameters, and those outside the blocks, are cut by rows: a rank holds the float32
master of its rows alone and gathers a block's whole weights, in the type that it computes in,
while the block runs.
"""

from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from llmctl.model.transformer import Transformer
from llmctl.shapes import Shape
from llmctl.train.distributed.world import World
from llmctl.train.machine import Machine


def mesh_over(device: str, world: World, each: int) -> DeviceMesh:
    """The ranks that hold the same parts of matrices as this one, `each` of them in the last
    dimension; where there are more, the first repeats them.
    """
    ranks = world.size // world.parts
    sizes, names = (ranks // each, each, world.parts), ("replicate", "shard", "part")
    mesh = world.mesh(device, sizes, names)
    return mesh["shard"] if ranks == each else mesh["replicate", "shard"]


def laid_in_rows(
    shape: Shape, machine: Machine, world: World, *, each: int, offload: bool
) -> tuple[Transformer, Any]:
    """A model without values yet, in rows over `each` ranks, and the group of those ranks.

    Where there are more ranks, as many times as they are; `shape` is that of a rank's part.
    """
    device = machine.device
    mesh = mesh_over(device.type, world, each)
    with torch.device("meta"):
        model = Transformer(shape)
    shard(model, mesh, dtype=machine.dtype, offload=offload)
    model.to_empty(device="cpu" if offload else device)
    for module in sharded_modules(model):
        # FSDP lays out its memory now, so that views of parameters stay good from here on.
        module.unshard()
        module.reshard()
    return model, mesh.get_group(mesh.ndim - 1)


def shard(
    model: Transformer, mesh: DeviceMesh, *, dtype: torch.dtype, offload: bool = False
) -> Transformer:
    """Lay a model over a mesh, whose last dimension shards and whose first, if two, replicates.

    Gradients come summed over all ranks, in float32; with `offload` masters live in the memory of
    the host.
    """
    mixed = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32
    )
    policy = CPUOffloadPolicy(pin_memory=mesh.device_type == "cuda") if offload else OffloadPolicy()
    for block in (*model.blocks, model):
        fully_shard(block, mesh=mesh, mp_policy=mixed, offload_policy=policy)
    # The loss asks for hidden states, and computes the head's product by itself.
    register_fsdp_forward_method(model, "hidden")
    for module in sharded_modules(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    return model


def sharded_modules(model: Transformer) -> list[FSDPModule]:
    """The modules whose parameters are gathered together: the blocks, and the model around them."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]
