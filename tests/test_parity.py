"""Our model folders open in transformers, its folders open here, and both compute the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmctl.data.tokenizer_training import byte_tokenizer
from llmctl.infer.engine import Engine
from llmctl.infer.sampling import Sampling
from llmctl.model.checkpoint import SpecialIds, load_model, save_model
from llmctl.model.transformer import Transformer, fresh
from llmctl.shapes import RopeScaling, Size, shape_of

pytestmark = pytest.mark.parity

# So that of the eight frequencies of a head some are kept, some divided, and one is in between.
LLAMA_3_1 = RopeScaling(factor=8.0, original=400, low=1.0, high=4.0)
LLAMA_3_1_CONFIG = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 400,
}
OURS: dict[str, dict[str, Any]] = {
    "qwen3": {"family": "qwen3"},
    "qwen3-grouped-tied": {"family": "qwen3", "num_kv_heads": 2, "tied_head": True},
    "qwen3-wide-heads": {"family": "qwen3", "num_heads": 4, "head_width": 48},
    "llama": {"family": "llama", "rope_base": 5e5},
    "llama-grouped-tied": {"family": "llama", "num_kv_heads": 1, "tied_head": True},
    "llama-biased": {"family": "llama", "bias": "all"},
    "llama-biased-attention": {"family": "llama", "bias": "attention", "num_kv_heads": 2},
    "llama-3.1": {"family": "llama", "rope_base": 5e5, "rope_scaling": LLAMA_3_1},
    "llama-stretched": {"family": "llama", "rope_scaling": RopeScaling(factor=2.5)},
    "mistral-window": {"family": "llama", "window": 7},
    "gpt2": {"family": "gpt2"},
    "gpt2-untied": {"family": "gpt2", "tied_head": False, "mlp_width": 96},
}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3", {"head_dim": 24, "num_key_value_heads": 2, "rope_theta": 1e6}),
    "qwen3-tied": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3-biased": ("Qwen3", {"head_dim": 16, "attention_bias": True}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2, "rope_theta": 1e6}),
    "qwen2-tied": ("Qwen2", {"tie_word_embeddings": True}),
    "llama": ("Llama", {"num_key_value_heads": 2, "rms_norm_eps": 1e-5}),
    "llama-biased": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-biased-attention": ("Llama", {"attention_bias": True}),
    "llama-3.1": ("Llama", {"rope_parameters": LLAMA_3_1_CONFIG, "tie_word_embeddings": True}),
    "llama-3.1-as-published": ("Llama", {"rope_theta": 5e5, "rope_scaling": LLAMA_3_1_CONFIG}),
    "llama-stretched": ("Llama", {"rope_scaling": {"type": "linear", "factor": 2.5}}),
    "gemma": ("Gemma", {"head_dim": 24, "num_key_value_heads": 1}),
    "gemma-untied": ("Gemma", {"head_dim": 16, "tie_word_embeddings": False}),
    "mistral": ("Mistral", {"num_key_value_heads": 4, "sliding_window": 7}),
    "mistral-no-window": ("Mistral", {"num_key_value_heads": 1, "sliding_window": None}),
    "gpt2": ("GPT2", {}),
    "gpt2-narrow": ("GPT2", {"n_inner": 80, "activation_function": "gelu_pytorch_tanh"}),
}
VOCAB, CONTEXT = 280, 64


@pytest.fixture(scope="module")
def transformers() -> Any:
    library = pytest.importorskip("transformers")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def drawn(model: torch.nn.Module) -> Any:
    """The model with every number random: gains and biases that are ones and zeros hide errors."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                0.08 * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1)
            )
    return model


def our_model(variant: str) -> Transformer:
    return drawn(fresh(shape_of(Size(2, 64, 16, CONTEXT), vocab_size=VOCAB, **OURS[variant]), 0))


def their_model(transformers: Any, variant: str) -> Any:
    name, given = THEIRS[variant]
    sizes: dict[str, Any] = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": CONTEXT}
    if name != "GPT2":
        sizes = {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "max_position_embeddings": CONTEXT,
            "num_key_value_heads": 4,
        }
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    config = getattr(transformers, f"{name}Config")(vocab_size=VOCAB, **{**sizes, **ids, **given})
    head = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
    return drawn(getattr(transformers, f"{name}{head}")(config).eval())


def prompts() -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(2, 256, size, generator=generator) for size in [(1, 1), (3, CONTEXT)]]


@torch.inference_mode()
def assert_same_logits(ours: Transformer, theirs: Any) -> None:
    for ids in prompts():
        logits = theirs(input_ids=ids).logits
        assert logits.std() > 0.1
        torch.testing.assert_close(ours(ids), logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", OURS)
def test_transformers_opens_our_folders_and_computes_the_same(
    transformers: Any, variant: str, tmp_path: Path
) -> None:
    model = our_model(variant)

    save_model(model.state_dict(), model.shape, tmp_path, special=SpecialIds(eos=5, pad=6))
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )

    assert not any(report.values())
    assert theirs.dtype == torch.float32
    assert theirs.generation_config.eos_token_id == 5
    assert theirs.generation_config.pad_token_id == 6
    assert_same_logits(model, theirs)


@pytest.mark.parametrize("variant", THEIRS)
def test_folders_of_transformers_open_here_and_compute_the_same(
    transformers: Any, variant: str, tmp_path: Path
) -> None:
    theirs = their_model(transformers, variant)

    theirs.save_pretrained(tmp_path)

    assert_same_logits(load_model(tmp_path), theirs)


@pytest.mark.parametrize("variant", THEIRS)
def test_a_model_from_outside_goes_out_again_as_it_came(
    transformers: Any, variant: str, tmp_path: Path
) -> None:
    theirs = their_model(transformers, variant)
    theirs.save_pretrained(tmp_path / "theirs")
    model = load_model(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()

    save_model(model.state_dict(), model.shape, tmp_path / "ours")
    again, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )

    assert not any(report.values())
    assert_same_logits(model, again)


@pytest.mark.parametrize("variant", ["qwen2", "llama-3.1", "mistral", "gemma", "gpt2"])
def test_prompts_of_different_lengths_in_one_batch_compute_as_each_alone(
    transformers: Any, variant: str, tmp_path: Path
) -> None:
    theirs = their_model(transformers, variant)
    theirs.save_pretrained(tmp_path)
    tokenizer = byte_tokenizer()
    texts = ["A", "Once upon a time", "x" * (CONTEXT - 1), "There was"]

    tables = Engine(load_model(tmp_path), tokenizer).next_tokens(texts, VOCAB)

    for text, table in zip(texts, tables, strict=True):
        with torch.inference_mode():
            logits = theirs(torch.tensor([tokenizer.encode_prompt(text)])).logits[0, -1]
        ours = torch.tensor([one.probability for one in sorted(table, key=lambda one: one.id)])
        torch.testing.assert_close(ours.log(), logits.log_softmax(-1), atol=1e-4, rtol=0)


def test_a_folder_in_several_parts_opens_here(transformers: Any, tmp_path: Path) -> None:
    theirs = their_model(transformers, "llama")

    theirs.save_pretrained(tmp_path, max_shard_size="50KB")

    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_same_logits(load_model(tmp_path), theirs)


def test_a_gpt2_as_it_was_first_published_opens_here(transformers: Any, tmp_path: Path) -> None:
    theirs = their_model(transformers, "gpt2")
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {name.removeprefix("transformer."): one for name, one in load_file(path).items()}
    masks = {"h.0.attn.bias": torch.ones(1, 1, 8, 8), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    head = {"lm_head.weight": tensors["wte.weight"].clone()}
    save_file(tensors | masks | head, path)

    assert_same_logits(load_model(tmp_path), theirs)


@pytest.mark.parametrize("variant", ["qwen3-grouped-tied", "mistral-window", "gpt2"])
def test_both_write_the_same_text(transformers: Any, variant: str, tmp_path: Path) -> None:
    model, tokenizer = our_model(variant), byte_tokenizer()
    save_model(model.state_dict(), model.shape, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    texts = ["Once upon a time", "Hi"]
    ends = [tokenizer.eos_id, tokenizer.im_end_id]

    ours = Engine(model, tokenizer).generate(texts, Sampling(max_tokens=20, temperature=0))

    for text, one in zip(texts, ours, strict=True):
        ids = torch.tensor([tokenizer.encode_prompt(text)])
        written = theirs.generate(ids, max_new_tokens=20, eos_token_id=ends, pad_token_id=0)
        assert one.text == tokenizer.decode(written[0, ids.shape[1] :])
