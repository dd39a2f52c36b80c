"""Adapters: nothing changes until they are trained, and a merged model is a plain one again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from llmctl.errors import ConfigError, WorkspaceError
from llmctl.model.adapters import (
    AdapterSettings,
    adapter_state,
    add_adapters,
    load_adapter,
    load_adapter_state,
    merge_adapters,
    save_adapter,
)
from llmctl.model.transformer import Transformer, fresh
from llmctl.shapes import Size, shape_of

FAMILIES = ["qwen3", "llama", "gpt2"]
IDS = torch.arange(2, 26).reshape(2, 12)


def random_model(family: str = "qwen3", **given: Any) -> Transformer:
    """A model of which every number counts: nothing is zero or one."""
    shape = shape_of(Size(2, 64, 16, 32), vocab_size=40, family=family, **given)
    return shaken(fresh(shape, seed=0), 1)


def shaken(model: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def adapted_model(family: str = "qwen3", **settings: Any) -> Transformer:
    model = random_model(family)
    add_adapters(model, AdapterSettings(rank=4, **settings), seed=0)
    return shaken(model, 2)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_computes_as_before_until_its_adapters_are_trained(family: str, dora: bool) -> None:
    model = random_model(family)
    before = model(IDS)

    add_adapters(model, AdapterSettings(dora=dora), seed=0)

    torch.testing.assert_close(model(IDS), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_model_is_plain_and_computes_what_the_adapted_one_did(
    family: str, dora: bool
) -> None:
    plain = random_model(family)
    model = adapted_model(family, dora=dora)
    adapted = model(IDS).detach()

    merge_adapters(model)

    assert (adapted - plain(IDS)).abs().max() > 0.1
    torch.testing.assert_close(model(IDS), adapted, atol=1e-5, rtol=0)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert all(
        isinstance(one, type(other))
        for one, other in zip(model.modules(), plain.modules(), strict=True)
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("dora", [False, True])
def test_only_adapters_are_trained_and_every_part_has_its_own(dora: bool) -> None:
    model = adapted_model(dora=dora)

    model(IDS).square().sum().backward()

    moved = {name for name, one in model.named_parameters() if one.grad is not None}
    assert moved == {name for name, one in model.named_parameters() if one.requires_grad}
    kinds = ["a", "b", "magnitude"] if dora else ["a", "b"]
    parts = "attention.qkv.query attention.qkv.key attention.qkv.value attention.out.out".split()
    parts += "mlp.gate_up.gate mlp.gate_up.up mlp.down.down".split()
    assert set(adapter_state(model)) == {
        f"blocks.{layer}.{part}.{kind}" for layer in (0, 1) for part in parts for kind in kinds
    }
    assert len(moved) == len(adapter_state(model))


def test_the_lengths_of_dora_are_constants_to_the_gradient() -> None:
    model = adapted_model(dora=True, targets=("down",))
    layer = model.blocks[0].mlp.down
    x = torch.randn(3, layer.weight.shape[1])
    part = layer.parts["down"]
    low_rank = part.scale * part.b @ part.a
    length = torch.linalg.vector_norm(layer.weight + low_rank, dim=1).detach()

    by_hand = torch.autograd.grad(
        (x @ (layer.weight + low_rank).T * part.magnitude / length).square().sum(),
        list(part.parameters()),
    )
    ours = torch.autograd.grad(layer(x).square().sum(), list(part.parameters()))

    torch.testing.assert_close(ours, by_hand, atol=1e-4, rtol=1e-4)


def test_only_the_named_matrices_are_adapted() -> None:
    state = adapter_state(adapted_model(targets=("query", "value")))

    assert {name.split(".")[-2] for name in state} == {"query", "value"}


def test_a_matrix_that_a_family_keeps_whole_is_not_adapted_by_halves() -> None:
    with pytest.raises(ConfigError, match="key"):
        add_adapters(random_model("gpt2"), AdapterSettings(targets=("query", "value")), seed=0)


def test_targets_that_the_family_lacks_are_refused_where_nothing_is_left() -> None:
    with pytest.raises(ConfigError, match="gate"):
        add_adapters(random_model("gpt2"), AdapterSettings(targets=("gate",)), seed=0)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"rank": 0}, "rank 0"),
        ({"alpha": 0.0}, "alpha 0"),
        ({"dropout": 1.0}, "1.0"),
        ({"targets": ("quary",)}, "quary"),
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        AdapterSettings(**wrong)


def test_a_seed_draws_the_same_adapters_and_another_seed_others() -> None:
    def drawn(seed: int) -> torch.Tensor:
        model = random_model()
        add_adapters(model, AdapterSettings(), seed=seed)
        return adapter_state(model)["blocks.1.mlp.down.down.a"]

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_dropout_falls_in_training_alone_and_repeats_with_the_global_seed() -> None:
    model = adapted_model(dropout=0.5)

    def trained(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return model.train()(IDS).detach()

    assert torch.equal(trained(5), trained(5))
    assert not torch.equal(trained(5), trained(6))
    assert torch.equal(model.eval()(IDS), model.eval()(IDS))


def test_adapters_of_a_bfloat16_model_stay_float32() -> None:
    model = random_model().to(torch.bfloat16)

    add_adapters(model, AdapterSettings(dora=True), seed=0)

    assert {value.dtype for value in adapter_state(model).values()} == {torch.float32}
    assert model(IDS).dtype == torch.bfloat16


def test_a_model_inside_another_module_is_adapted_and_merged_in_its_place() -> None:
    wrapper = nn.Sequential(random_model(), nn.Linear(40, 3))
    before = wrapper(IDS).detach()

    add_adapters(wrapper, AdapterSettings(), seed=0)
    frozen = [name for name, one in wrapper.named_parameters() if not one.requires_grad]
    merge_adapters(wrapper)

    assert "1.weight" in frozen
    torch.testing.assert_close(wrapper(IDS), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_comes_back_bit_for_bit(family: str, tmp_path: Path) -> None:
    settings = AdapterSettings(rank=4, alpha=6.0, dropout=0.25, dora=True)
    model = adapted_model(family, alpha=6.0, dropout=0.25, dora=True)

    save_adapter(model, settings, tmp_path, "somebody/model")
    again = random_model(family)
    found = load_adapter(again, tmp_path)

    targets = tuple(one for one in settings.targets if family != "gpt2" or one != "gate")
    assert found == AdapterSettings(rank=4, alpha=6.0, dropout=0.25, dora=True, targets=targets)
    assert torch.equal(again.eval()(IDS), model.eval()(IDS))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peft_type", "IA3"),
        ("task_type", "SEQ_CLS"),
        ("bias", "all"),
        ("modules_to_save", ["score"]),
        ("layers_to_transform", [0]),
        ("rank_pattern", {"q": 2}),
        ("alpha_pattern", {"q": 2}),
        ("init_lora_weights", "pissa"),
        ("lora_bias", True),
        ("trainable_token_indices", [1]),
        ("a_field_of_the_future", True),
    ],
)
def test_what_an_adapter_asks_for_and_does_not_get_is_refused_by_name(
    tmp_path: Path, field: str, value: Any
) -> None:
    save_adapter(adapted_model(), AdapterSettings(rank=4), tmp_path, "base")
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))

    with pytest.raises(ConfigError, match=field):
        load_adapter(random_model(), tmp_path)


@pytest.mark.parametrize("removed", ["lora_A.weight", "lora_B.weight"])
def test_an_adapter_that_lacks_a_matrix_is_refused_by_name(tmp_path: Path, removed: str) -> None:
    save_adapter(adapted_model(), AdapterSettings(rank=4), tmp_path, "base")
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file(
        {name: one for name, one in tensors.items() if f"0.mlp.down_proj.{removed}" not in name},
        path,
    )

    with pytest.raises(WorkspaceError, match=r"lacks `blocks\.0\.mlp\.down\.down"):
        load_adapter(random_model(), tmp_path)


def test_an_adapter_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    save_adapter(adapted_model(), AdapterSettings(rank=4), tmp_path, "base")

    with pytest.raises(WorkspaceError, match=r"model\.layers\.0"):
        load_adapter(random_model("gpt2"), tmp_path)
    with pytest.raises(WorkspaceError, match="size"):
        load_adapter(random_model(num_kv_heads=2), tmp_path)


def test_an_adapter_in_a_pickle_is_never_opened(tmp_path: Path) -> None:
    save_adapter(adapted_model(), AdapterSettings(rank=4), tmp_path, "base")
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")

    with pytest.raises(WorkspaceError, match="pickle"):
        load_adapter(random_model(), tmp_path)


def test_a_state_goes_into_another_model_with_the_same_adapters() -> None:
    model, other = adapted_model(), random_model()
    add_adapters(other, AdapterSettings(rank=4), seed=9)

    load_adapter_state(other, adapter_state(model))

    assert torch.equal(other(IDS), model(IDS))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own compiler warns of what it does itself
def test_adapted_blocks_compile_and_compute_the_same() -> None:
    model = adapted_model(dora=True)
    eager = model(IDS)
    eager.square().sum().backward()
    gradients = [one.grad for one in model.parameters() if one.requires_grad]

    for block in model.blocks:
        block.compile(dynamic=False)
    model.zero_grad()
    compiled = model(IDS)
    compiled.square().sum().backward()

    torch.testing.assert_close(compiled, eager, atol=1e-4, rtol=0)
    again = [one.grad for one in model.parameters() if one.requires_grad]
    torch.testing.assert_close(again, gradients, atol=1e-2, rtol=1e-3)
