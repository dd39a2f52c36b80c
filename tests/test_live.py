"""Live: what only the internet can show; `make live` runs it, everywhere else it is skipped."""

from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import snapshot_download

from llmctl.data.tokenizer_hub import tokenizer_from
from llmctl.model.checkpoint import load_model

pytestmark = pytest.mark.network
MODEL = "openai-community/gpt2"


def test_a_tokenizer_comes_from_the_hub_and_counts_as_gpt2_does() -> None:
    tokenizer = tokenizer_from(MODEL)

    assert tokenizer.encode("Hello world").tolist() == [15496, 995]


def test_a_published_model_gives_the_logits_of_transformers() -> None:
    patterns = ["config.json", "model.safetensors", "tokenizer*", "generation_config.json"]
    folder = Path(snapshot_download(MODEL, allow_patterns=patterns))
    ids = torch.tensor([[15496, 995, 11, 314, 716]])

    ours = load_model(folder, dtype=torch.float32)(ids)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)(ids).logits

    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
