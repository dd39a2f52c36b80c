"""A machine whose matrix products were timed -> an accelerator that the estimate understands."""

from llmctl.costs.accelerators import Accelerator
from llmctl.costs.throughput import EASY_BYTES_PER_FLOP

# A desktop or a server's share of a core, host included: what is not measured is assumed.
WATTS = 150.0


def timed_machine(matmul_flops: float, *, memory_gb: float = 16.0) -> Accelerator:
    """The machine of a measured rate in FLOP/s; its peak is that rate, so MFU is a share of it."""
    teraflops = matmul_flops / 1e12
    return Accelerator(
        name="this machine",
        vendor="",
        memory=memory_gb,
        bandwidth=EASY_BYTES_PER_FLOP * matmul_flops / 1e9,
        link=None,
        network=None,
        tdp=None,
        wall=WATTS,
        peaks={"bf16": teraflops},
        matmul=teraflops,
        steady=None,
        sparse_factor=1,
        source="timed here",
        steady_source="",
        wall_source="assumption",
    )
