"""Our adapter folders open in PEFT, its folders open here, and both compute the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from llmctl.model.adapters import AdapterSettings, add_adapters, load_adapter, save_adapter
from llmctl.model.checkpoint import load_model, save_model
from llmctl.model.transformer import Transformer, fresh
from llmctl.shapes import Size, shape_of

pytestmark = [
    pytest.mark.parity,
    # PEFT asks transformers by a name that is to go.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

IDS = torch.arange(2, 42).reshape(2, 20)
PEFT_TARGETS = {
    "gpt2": ["c_attn", "c_fc", "c_proj"],
    "llama": ["q_proj", "v_proj", "gate_proj", "down_proj"],
    "qwen3": "all-linear",
}


@pytest.fixture(scope="module")
def peft() -> Any:
    return pytest.importorskip("peft")


@pytest.fixture(scope="module")
def transformers() -> Any:
    library = pytest.importorskip("transformers")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def drawn(model: Any, seed: int) -> Any:
    """The model with every number that is trained random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.08 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(params=["qwen3", "llama", "gpt2"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def base(family: str, tmp_path: Path) -> Path:
    """The folder of a model of the family that the test is about."""
    grouped = {} if family == "gpt2" else {"num_kv_heads": 2}
    shape = shape_of(Size(2, 64, 16, 32), vocab_size=60, family=family, **grouped)
    folder = tmp_path / "base"
    folder.mkdir()
    save_model(drawn(fresh(shape, 0), 1).state_dict(), shape, folder)
    return folder


@torch.inference_mode()
def assert_same_logits(ours: Transformer, theirs: Any, plain: Any) -> None:
    logits = theirs(input_ids=IDS).logits
    assert (logits - plain(input_ids=IDS).logits).abs().max() > 0.1
    torch.testing.assert_close(ours.eval()(IDS), logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("targets", [("out",), AdapterSettings().targets])
def test_peft_opens_our_folders_and_computes_the_same(
    peft: Any, transformers: Any, base: Path, dora: bool, targets: tuple[str, ...], tmp_path: Path
) -> None:
    settings = AdapterSettings(rank=4, alpha=6.0, targets=targets, dora=dora)
    model = load_model(base)
    add_adapters(model, settings, seed=0)
    drawn(model, 2)

    save_adapter(model, settings, tmp_path, str(base))
    plain = transformers.AutoModelForCausalLM.from_pretrained(base)
    theirs = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(base), tmp_path
    )

    assert_same_logits(model, theirs, plain)


@pytest.mark.parametrize("choice", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_folders_of_peft_open_here_and_compute_the_same(
    peft: Any, transformers: Any, base: Path, family: str, choice: dict[str, bool], tmp_path: Path
) -> None:
    plain, under = (transformers.AutoModelForCausalLM.from_pretrained(base) for _ in range(2))
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        lora_dropout=0.1,
        target_modules=PEFT_TARGETS[family],
        task_type="CAUSAL_LM",
        fan_in_fan_out=family == "gpt2",
        **choice,
    )
    theirs = drawn(peft.get_peft_model(under, config), 2)

    theirs.save_pretrained(tmp_path)
    model = load_model(base)
    load_adapter(model, tmp_path)

    assert_same_logits(model, theirs, plain)
