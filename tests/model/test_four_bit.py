"""Four bits in place of a frozen matrix: what they say, what they train, and what they take."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from llmctl.model.adapters import adapter_state, add_adapters, fold_frozen
from llmctl.model.low_rank import Adapted, AdapterSettings
from llmctl.model.transformer import Transformer, fresh
from llmctl.shapes import Size, shape_of

pytest.importorskip("bitsandbytes", reason="needs the extra `qlora`")
IDS = torch.arange(2, 26).reshape(2, 12)
CPU = torch.device("cpu")


def folded_model(family: str = "qwen3") -> tuple[Transformer, Transformer]:
    """A model under adapters, whole and in four bits."""
    shape = shape_of(Size(2, 64, 16, 32), vocab_size=40, family=family)
    pair: list[Any] = []
    for _ in range(2):
        model = fresh(shape, seed=0)
        with torch.no_grad():
            for name, one in model.named_parameters():
                if one.ndim == 2:
                    one.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(len(name)))
        add_adapters(model, AdapterSettings(rank=4), seed=0)
        pair.append(model)
    fold_frozen(pair[1], CPU)
    return pair[0], pair[1]


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_a_folded_model_computes_with_its_weights_rounded_to_sixteen_levels(family: str) -> None:
    whole, folded = folded_model(family)
    rounded, _ = folded_model(family)
    for name, place in rounded.named_modules():
        if isinstance(place, Adapted):
            four_bit = folded.get_submodule(name).four_bit
            levels = four_bit.unfolded().flatten()[:64].unique()
            assert len(levels) <= 16
            place.weight.data = four_bit.unfolded()

    with torch.no_grad():
        torch.testing.assert_close(folded(IDS), rounded(IDS), atol=1e-5, rtol=0)
        assert 1e-3 < (folded(IDS) - whole(IDS)).abs().max() < whole(IDS).abs().max()


def test_adapters_beside_four_bits_get_the_gradients_of_the_rounded_weights() -> None:
    rounded, folded = folded_model()
    for name, place in rounded.named_modules():
        if isinstance(place, Adapted):
            place.weight.data = folded.get_submodule(name).four_bit.unfolded()

    for model in (rounded, folded):
        model(IDS).square().sum().backward()

    wanted = {name: one.grad for name, one in rounded.named_parameters() if one.requires_grad}
    found = {name: one.grad for name, one in folded.named_parameters() if one.requires_grad}
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert len(found) == len(adapter_state(folded)) > 0


def test_a_folded_matrix_takes_a_seventh_of_its_bytes_and_keeps_them_in_any_type() -> None:
    whole, folded = folded_model()
    before = folded.blocks[0].mlp.down.four_bit.unfolded()

    folded.to(torch.bfloat16)

    after = folded.blocks[0].mlp.down.four_bit.unfolded()
    packed = folded.blocks[0].mlp.down.four_bit.packed
    assert after.equal(before)
    assert packed.nbytes * 7 < whole.blocks[0].mlp.down.weight.nbytes
    assert not [name for name in folded.state_dict() if "packed" in name or "down.weight" in name]


def test_loading_the_library_says_nothing_and_leaves_the_modules_as_they_were() -> None:
    script = (
        "import sys; from llmctl.model.four_bit import load_bitsandbytes;"
        "load_bitsandbytes(); assert 'kernels' not in sys.modules"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
