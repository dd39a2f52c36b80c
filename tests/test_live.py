"""Live: what only the internet can show; `make live` runs it, everywhere else it is skipped."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmctl.data.tokenizer import Tokenizer
from llmctl.data.tokenizer_hub import tokenizer_from
from llmctl.model.checkpoint import load_model
from llmctl.stages.import_model import ImportModel, run
from llmctl.workspace import Artifact, Workspace

pytestmark = pytest.mark.network
MODEL = "openai-community/gpt2"


def test_a_tokenizer_comes_from_the_hub_and_counts_as_gpt2_does() -> None:
    tokenizer = tokenizer_from(MODEL)

    assert tokenizer.encode("Hello world").tolist() == [15496, 995]


@pytest.mark.parametrize(
    "repository", [MODEL, "HuggingFaceTB/SmolLM2-135M", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen3-0.6B"]
)
def test_a_published_model_is_imported_and_gives_the_logits_of_transformers(
    repository: str, tmp_path: Path
) -> None:
    made = run(ImportModel(model=repository, name="theirs"), Workspace(tmp_path))
    assert isinstance(made, Artifact)
    ids = torch.tensor([Tokenizer.load(made.path).encode_prompt("Hello world, I am")])

    ours = load_model(made.path, dtype=torch.float32)(ids)
    theirs = AutoModelForCausalLM.from_pretrained(made.path, dtype=torch.float32)(ids).logits

    assert len(made.manifest.inputs[0].digest) == 40
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
