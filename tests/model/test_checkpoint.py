"""Model folders: what is written comes back, and what cannot be trusted is refused by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from llmctl.errors import ConfigError, LlmctlError, WorkspaceError
from llmctl.model.checkpoint import SpecialIds, load_model, read_shape, save_model
from llmctl.model.transformer import fresh
from llmctl.shapes import TRAITS, RopeScaling, Shape, Size, shape_of

VARIANTS: dict[str, dict[str, Any]] = {
    "qwen3": {"family": "qwen3", "num_kv_heads": 1},
    "tied": {"family": "qwen3", "tied_head": True, "head_width": 48, "num_heads": 2},
    "llama": {"family": "llama", "rope_base": 5e5},
    "mistral": {"family": "llama", "window": 8},
    "biased": {"family": "llama", "bias": "all"},
    "llama-3.1": {"family": "llama", "rope_scaling": RopeScaling(factor=8.0, original=16)},
    "qwen2": {"family": "qwen2", "bias": "qkv", "qk_norm": False},
    "gemma": {
        "family": "gemma",
        "activation": "geglu",
        "qk_norm": False,
        "scaled_embedding": True,
        "tied_head": True,
    },
    "gpt2": {"family": "gpt2"},
    "untied-gpt2": {"family": "gpt2", "tied_head": False},
}


def small_shape(variant: str = "qwen3", **given: Any) -> Shape:
    traits = {**VARIANTS[variant], **given}
    trained = traits["family"] if traits["family"] in TRAITS else "qwen3"
    shape = shape_of(Size(2, 64, 32, 24), vocab_size=40, **{**traits, "family": trained})
    return replace(shape, family=traits["family"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shape = small_shape()
    save_model(fresh(shape, seed=0).state_dict(), shape, tmp_path)
    return tmp_path


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({name: one for name, one in tensors.items() if one is not None}, path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_written_model_comes_back_bit_for_bit(variant: str, tmp_path: Path) -> None:
    shape = small_shape(variant)
    state = fresh(shape, seed=0).state_dict()

    save_model(state, shape, tmp_path)
    model = load_model(tmp_path)

    assert model.shape == shape
    found = model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert torch.equal(
        model.hidden(torch.arange(9)[None]), fresh(shape, 0).hidden(torch.arange(9)[None])
    )


def test_weights_keep_their_type_unless_another_is_asked_for(tmp_path: Path) -> None:
    shape = small_shape()
    save_model(fresh(shape, seed=0).state_dict(), shape, tmp_path, dtype=torch.bfloat16)

    assert load_model(tmp_path).head_weight.dtype == torch.bfloat16
    assert load_model(tmp_path, dtype=torch.float32).head_weight.dtype == torch.float32
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_a_folder_names_the_special_tokens(tmp_path: Path) -> None:
    shape = small_shape()

    save_model(fresh(shape, seed=0).state_dict(), shape, tmp_path, special=SpecialIds(eos=3, pad=4))

    for name in ("config.json", "generation_config.json"):
        written = json.loads((tmp_path / name).read_text())
        assert [written[f"{kind}_token_id"] for kind in ("eos", "pad", "bos")] == [3, 4, None]


def test_weights_in_several_files_are_read_through_their_index(folder: Path) -> None:
    whole = load_model(folder).state_dict()
    tensors = list(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    parts = {"model-1.safetensors": dict(tensors[:5]), "model-2.safetensors": dict(tensors[5:])}
    for name, part in parts.items():
        save_file(part, folder / name)
    table = {tensor: name for name, part in parts.items() for tensor in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))

    state = load_model(folder).state_dict()

    assert all(torch.equal(state[name], whole[name]) for name in whole)


def test_a_large_model_is_written_in_several_files_that_others_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = small_shape()
    state = fresh(shape, seed=0).state_dict()
    monkeypatch.setattr("llmctl.model.checkpoint.LARGEST_FILE_BYTES", 20_000)

    save_model(state, shape, tmp_path)

    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert set(index["weight_map"].values()) == set(files)
    assert all(
        torch.equal(one, load_model(tmp_path).state_dict()[name]) for name, one in state.items()
    )
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert theirs["model.embed_tokens.weight"].equal(state["embedding.weight"])


def test_an_index_cannot_reach_outside_its_folder(folder: Path) -> None:
    inside = folder / "inside"
    inside.mkdir()
    (folder / "config.json").rename(inside / "config.json")
    table = {"weight_map": {"model.norm.weight": "../model.safetensors"}}
    (inside / "model.safetensors.index.json").write_text(json.dumps(table))

    with pytest.raises(WorkspaceError, match=r"\.\./model\.safetensors"):
        load_model(inside)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "weights.pt"])
def test_a_pickle_is_never_opened(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")

    with pytest.raises(WorkspaceError, match="pickle") as refusal:
        load_model(folder)

    assert name in refusal.value.message
    assert "save_pretrained" in str(refusal.value.hint)


@pytest.mark.parametrize("kept", [0, 7, 100, 5000])
def test_a_torn_weights_file_is_named(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(WorkspaceError, match=r"model\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'{"a":' * 100_000])
def test_a_config_that_is_no_json_object_is_named(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)

    with pytest.raises(WorkspaceError, match=r"config\.json"):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()

    with pytest.raises(WorkspaceError) as refusal:
        load_model(folder)

    assert name in f"{refusal.value.message} {refusal.value.hint}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.norm.weight": None, "more": torch.ones(64)}, ["lacks", "model.norm.weight"]),
        ({"stranger.weight": torch.ones(3)}, ["besides", "stranger.weight"]),
        ({"lm_head.weight": torch.ones(41, 64)}, ["lm_head.weight", "[41, 64]", "[40, 64]"]),
        ({"model.norm.weight": torch.ones(64, dtype=torch.int8)}, ["model.norm.weight", "I8"]),
    ],
)
def test_weights_that_do_not_fit_the_config_are_named(
    folder: Path, changes: dict[str, torch.Tensor | None], words: list[str]
) -> None:
    edit_weights(folder, **changes)

    with pytest.raises(WorkspaceError) as refusal:
        load_model(folder)

    assert all(word in refusal.value.message for word in words)


@pytest.mark.parametrize("field", ["num_hidden_layers", "vocab_size", "intermediate_size"])
def test_a_config_that_asks_for_a_giant_is_refused_before_one_is_built(
    folder: Path, field: str
) -> None:
    edit_config(folder, **{field: 10**12})

    with pytest.raises(WorkspaceError, match="incomplete"):
        load_model(folder)


@pytest.mark.parametrize(
    ("variant", "field", "value"),
    [
        ("qwen3", "rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("qwen3", "rope_parameters", {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
        ("llama", "rope_scaling", {"rope_type": "linear", "factor": 2.0, "attention_factor": 2.0}),
        ("qwen3", "rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        ("qwen3", "use_sliding_window", True),
        ("qwen3", "layer_types", ["full_attention", "sliding_attention"]),
        ("mistral", "attention_bias", True),
        ("gemma", "attention_bias", True),
        ("gemma", "hidden_activation", "gelu"),
        ("gemma", "use_bidirectional_attention", True),
        ("qwen2", "use_sliding_window", True),
        ("qwen2", "attention_bias", False),
        ("qwen3", "quantization_config", {"quant_method": "gptq"}),
        ("qwen3", "auto_map", {"AutoModelForCausalLM": "evil.Model"}),
        ("llama", "hidden_act", "gelu"),
        ("llama", "mlp_bias", True),
        ("llama", "sliding_window", 8),
        ("llama", "logits_scaling", 8.0),
        ("gpt2", "activation_function", "relu"),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "add_cross_attention", True),
    ],
)
def test_a_field_that_we_would_not_honour_is_refused_by_name(
    tmp_path: Path, variant: str, field: str, value: Any
) -> None:
    shape = small_shape(variant)
    save_model(fresh(shape, seed=0).state_dict(), shape, tmp_path)
    edit_config(tmp_path, **{field: value})

    with pytest.raises(ConfigError) as refusal:
        load_model(tmp_path)

    named = value.keys() - {"rope_type", "rope_theta"} if isinstance(value, dict) else set()
    assert field in refusal.value.message or any(one in refusal.value.message for one in named)


def test_all_refused_fields_are_named_at_once(folder: Path) -> None:
    edit_config(folder, use_sliding_window=True, logit_softcap=30.0)

    with pytest.raises(ConfigError, match=r"logit_softcap = 30\.0, use_sliding_window = True"):
        read_shape(folder)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("hidden_size", "64", "a whole number"),
        ("hidden_size", None, "hidden_size"),
        ("num_hidden_layers", 2.5, "a whole number"),
        ("rms_norm_eps", -1.0, "above zero"),
        ("tie_word_embeddings", 1, "true or false"),
        ("num_attention_heads", 0, "num_heads"),
        ("model_type", "qwen33", "unknown model family `qwen33`"),
        ("model_type", None, "model_type"),
    ],
)
def test_a_senseless_value_is_refused_by_name(
    folder: Path, field: str, value: Any, word: str
) -> None:
    edit_config(folder, **{field: value})

    with pytest.raises(ConfigError) as refusal:
        read_shape(folder)

    assert word in f"{refusal.value.message} {refusal.value.hint}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_value_of_a_config_ends_in_anything_but_a_refusal(
    folder: Path, data: st.DataObject
) -> None:
    path = folder / "config.json"
    original = path.read_text()
    field = data.draw(st.sampled_from(sorted(json.loads(original))))
    try:
        edit_config(folder, **{field: data.draw(JSON)})
        assert isinstance(read_shape(folder), Shape)
    except LlmctlError:
        pass
    finally:
        path.write_text(original)


@pytest.mark.parametrize(
    ("variant", "given", "trait"),
    [
        ("llama", {"qk_norm": True}, "qk_norm = True"),
        ("qwen3", {"window": 4}, "window = 4"),
        ("qwen3", {"bias": "all"}, "bias = all"),
        ("gpt2", {"num_kv_heads": 1}, "num_kv_heads = 1"),
    ],
)
def test_a_shape_that_its_family_cannot_say_is_not_written(
    tmp_path: Path, variant: str, given: dict[str, Any], trait: str
) -> None:
    shape = small_shape(variant, **given)

    with pytest.raises(ConfigError, match=trait):
        save_model(fresh(shape, seed=0).state_dict(), shape, tmp_path)

    assert not list(tmp_path.iterdir())
