"""`import`: a model from outside becomes one of the workspace, checked and pinned."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llmctl.data.tokenizer_training import byte_tokenizer
from llmctl.errors import ConfigError, WorkspaceError
from llmctl.infer.engine import Engine
from llmctl.model.adapters import AdapterSettings, add_adapters, save_adapter
from llmctl.model.checkpoint import load_model, save_model
from llmctl.model.transformer import fresh
from llmctl.shapes import Size, shape_of
from llmctl.stages.import_model import ImportModel, run
from llmctl.workspace import Artifact, Workspace

NAME = "somebody/small-1M"
IDS = torch.arange(12)[None]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as others publish it, with what does not belong into a workspace beside it."""
    folder = tmp_path / "small-1M"
    folder.mkdir()
    tokenizer = byte_tokenizer()
    shape = shape_of(Size(2, 64, 32, 48), vocab_size=tokenizer.vocab_size, family="llama")
    save_model(fresh(shape, 0).state_dict(), shape, folder, dtype=torch.bfloat16)
    tokenizer.save(folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "README.md").write_text("a card")
    return folder


def imported(workspace: Workspace, reference: Any, **given: Any) -> Artifact:
    made = run(ImportModel(model=str(reference), **given), workspace)
    assert isinstance(made, Artifact)
    return made


def test_a_folder_becomes_a_model_that_writes(workspace: Workspace, folder: Path) -> None:
    made = imported(workspace, folder)

    assert made.label == "models/small-1M"
    assert made.manifest.sort == "causal-lm"
    assert made.facts == {
        "parameters": load_model(folder).shape.parameters,
        "family": "llama",
        "context": 48,
        "vocab_size": byte_tokenizer().vocab_size,
    }
    assert sorted(made.manifest.files) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert torch.equal(load_model(made.path)(IDS), load_model(folder)(IDS))
    assert Engine.open(made.path).next_tokens(["A"], 1)[0][0].probability > 0


def test_a_repository_is_pinned_by_its_commit(workspace: Workspace, folder: Path, hub) -> None:
    hub.repositories[NAME] = folder

    made = imported(workspace, NAME, name="small")

    [source] = made.manifest.inputs
    assert (source.kind, source.name, source.digest) == ("hub", NAME, hub.commit)
    assert made.label == "models/small"
    assert not any(path.endswith((".bin", ".md")) for path in hub.asked if "resolve" in path)


def test_the_same_model_is_imported_once_and_a_changed_one_only_by_force(
    workspace: Workspace, folder: Path
) -> None:
    first = imported(workspace, folder)
    again = imported(workspace, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 5e4}))

    assert again.manifest == first.manifest
    with pytest.raises(WorkspaceError, match="small-1M"):
        imported(workspace, folder)
    assert imported(workspace, folder, force=True).digest != first.digest


def test_a_plan_fetches_no_weights_and_makes_nothing(
    workspace: Workspace, folder: Path, hub
) -> None:
    hub.repositories[NAME] = folder

    plan = run(ImportModel(model=NAME, dry_run=True), workspace)

    assert isinstance(plan, dict)
    assert plan["plan"]["family"] == "llama"
    assert not any(path.endswith(".safetensors") for path in hub.asked)
    assert workspace.artifacts() == []


def test_a_tokenizer_with_a_chat_template_makes_a_chat_model(
    workspace: Workspace, folder: Path
) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")

    made = imported(workspace, folder)

    assert made.manifest.sort == "chat-lm"
    assert (made.path / "chat_template.jinja").read_text() == "{{ messages }}"


def test_an_adapter_is_merged_onto_its_base(
    workspace: Workspace, folder: Path, tmp_path: Path
) -> None:
    settings = AdapterSettings(rank=2, targets=("query", "down"))
    model = load_model(folder)
    add_adapters(model, settings, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += parameter.requires_grad * 0.1
    (tmp_path / "adapter").mkdir()
    save_adapter(model, settings, tmp_path / "adapter", NAME)
    imported(workspace, folder, name="base")

    made = imported(workspace, tmp_path / "adapter", base="base", name="tuned")
    merged = load_model(made.path)

    assert [one.kind for one in made.manifest.inputs] == ["source", "model"]
    assert merged.head_weight.dtype == torch.bfloat16
    torch.testing.assert_close(merged(IDS), model(IDS), atol=0.02, rtol=0.02)
    assert not torch.allclose(merged(IDS), load_model(folder)(IDS), atol=0.02, rtol=0.02)
    assert Engine.open(made.path).next_tokens(["A"], 1)


def test_an_adapter_alone_is_refused_with_the_base_that_it_names(
    workspace: Workspace, folder: Path, tmp_path: Path
) -> None:
    model, settings = load_model(folder), AdapterSettings(rank=2)
    add_adapters(model, settings, seed=0)
    (tmp_path / "adapter").mkdir()
    save_adapter(model, settings, tmp_path / "adapter", NAME)

    with pytest.raises(ConfigError, match="adapter") as told:
        imported(workspace, tmp_path / "adapter")

    assert f"--base {NAME}" in str(told.value.hint)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"model": "nothing-here"}, "nothing-here"),
        ({"model": "FOLDER", "revision": "main"}, "revision"),
        ({"model": "FOLDER", "base": "FOLDER"}, "whole model"),
    ],
)
def test_what_makes_no_sense_is_refused(
    workspace: Workspace, folder: Path, given: dict[str, str], word: str
) -> None:
    filled = {key: value.replace("FOLDER", str(folder)) for key, value in given.items()}

    with pytest.raises(ConfigError, match=word):
        run(ImportModel(**filled), workspace)


def test_a_classifier_is_called_one(workspace: Workspace, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    told = {**config, "architectures": ["LlamaForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(told))

    with pytest.raises(ConfigError, match="is a classifier, not a language model"):
        imported(workspace, folder)


def test_a_model_that_does_not_fit_its_config_leaves_nothing(
    workspace: Workspace, folder: Path
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_key_value_heads": 1}))

    with pytest.raises(WorkspaceError, match="size"):
        imported(workspace, folder)

    assert workspace.artifacts() == []


def test_a_tokenizer_larger_than_its_model_is_said_to_be(
    workspace: Workspace, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = shape_of(Size(2, 64, 32, 48), vocab_size=100, family="llama")
    save_model(fresh(shape, 0).state_dict(), shape, folder)

    imported(workspace, folder)

    assert "the model 100" in capsys.readouterr().err
