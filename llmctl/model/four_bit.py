"""A frozen matrix kept in four bits: NF4, its scales quantised again, as QLoRA has it.

Each 64 numbers share a scale and are one of sixteen quantiles of the normal distribution; 256
scales share one of theirs and take a byte each (arXiv 2305.14314, section 3): 4.13 bits a number.
The arithmetic is bitsandbytes', an optional package.

    D inputs, O outputs
"""

import importlib
import logging
import sys
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from llmctl.errors import DependencyError

PIP_LINE = "pip install 'llmctl[qlora]'"
# 256 is the block over scales that bitsandbytes itself takes; this one is over numbers.
BLOCK = 64


class FourBit(nn.Module):
    """A matrix (O, D) in four bits: multiplies what comes in, and passes gradients to that alone.

    It stays on the device of the matrix. DependencyError without bitsandbytes.
    """

    def __init__(self, weight_OD: Tensor) -> None:
        super().__init__()
        self._library = load_bitsandbytes()
        packed, self._scales = self._library.functional.quantize_4bit(
            weight_OD.detach().contiguous(),
            blocksize=BLOCK,
            compress_statistics=True,
            quant_type="nf4",
        )
        # Of no model's state: it follows from the weights of the base.
        self.register_buffer("packed", packed, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The product, in the type of `x`; the matrix is unfolded again in the backward pass."""
        return self._library.matmul_4bit(x, self.packed, quant_state=self._scales)

    def unfolded(self) -> Tensor:
        """The matrix (O, D) that is multiplied by, in the type that it came in."""
        return self._library.functional.dequantize_4bit(self.packed, self._scales)


def load_bitsandbytes() -> Any:
    """The library; DependencyError, with the pip line, where it is not installed.

    Where a package `kernels` is installed it would fetch machine code from a hub as it is
    imported, and complains where there is none: neither happens here.
    """
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    if modules.get("bitsandbytes") is not None:
        return modules["bitsandbytes"]
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    kernels = modules.pop("kernels", None)
    modules["kernels"] = None
    try:
        return importlib.import_module("bitsandbytes")
    except ModuleNotFoundError as error:
        raise DependencyError(
            "four-bit weights need bitsandbytes, which is not installed", hint=PIP_LINE
        ) from error
    finally:
        del modules["kernels"]
        if kernels is not None:
            modules["kernels"] = kernels
