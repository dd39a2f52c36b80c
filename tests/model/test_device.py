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
