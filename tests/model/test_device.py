import platform
import subprocess
import sys

import pytest
import torch

from llmctl.errors import ConfigError
from llmctl.model.device import pick_device, pick_dtype


def test_the_device_found_by_itself_computes() -> None:
    device = pick_device()

    assert torch.ones(2, device=device).sum().item() == 2


@pytest.mark.parametrize("name", ["gpu", "tpu:0", "", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        pick_device(name)

    assert "cpu" in str(refusal.value.hint)


def test_a_type_that_is_asked_for_is_taken_and_another_is_found_once() -> None:
    cpu = torch.device("cpu")

    assert pick_dtype(cpu, "bf16") == torch.bfloat16
    assert pick_dtype(cpu, "float32") == torch.float32
    assert pick_dtype(cpu) == pick_dtype(cpu) in (torch.bfloat16, torch.float32)


IN_A_PROCESS_OF_ITS_OWN = """
import resource, torch
from llmctl.model.device import hold_memory, release_memory

hold_memory()

def resident():
    return int(open("/proc/self/statm").read().split()[1])

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for step in range(30):
    if step == 20:
        before = faults()
    blocks = [torch.ones(10_000_000 + 1000 * layer) for layer in range(4)]
    del blocks
again = faults() - before
held = resident()
release_memory(torch.device("cpu"))
print(again, held - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_process_that_trains_keeps_what_it_frees_until_it_is_told_to_give_it_back() -> None:
    # Each of the last ten steps writes 39,063 pages.
    command = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pages_cleared_again, pages_given_back = map(int, done.stdout.split())

    assert pages_cleared_again < 39_063
    assert pages_given_back > 30_000
