"""How fast this machine multiplies and trains: a product and a few steps, timed."""

import time
from typing import NamedTuple

import torch
import torch.nn.functional as F

from llmctl.model.device import pick_device, pick_dtype
from llmctl.model.transformer import fresh
from llmctl.shapes import Shape, named_shape
from llmctl.train.meter import matmul_rate

ROWS, CONTEXT = 8, 256
WIDTH = 1024


class Calibration(NamedTuple):
    """FLOP/s of a large product; tokens a second and the shape of the steps that were timed."""

    device: str
    dtype: str
    matmul_flops: float
    tokens_per_second: float
    shape: Shape
    context: int


def calibrate(*, seconds: float = 2.0) -> Calibration:
    """Time a matrix product and the training steps of a nano model, the first step left out."""
    device = pick_device()
    dtype = pick_dtype(device)
    rate = matmul_rate(device, dtype, width=WIDTH, seconds=seconds / 4)
    shape = named_shape("nano", vocab_size=8192)
    model = fresh(shape, seed=0, device=device).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(shape.vocab_size, (ROWS, CONTEXT), generator=generator).to(device)
    taken: list[float] = []
    while sum(taken[1:]) < seconds:
        began = time.perf_counter()
        logits_BTV = model(ids_BT)
        loss = F.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device
        taken.append(time.perf_counter() - began)
    best = min(taken[1:])
    name = str(dtype).removeprefix("torch.")
    return Calibration(device.type, name, rate, ids_BT.numel() / best, shape, CONTEXT)
