"""A model from outside, of the hub or in a folder -> a model of the workspace, checked."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.config import dry_run_knob, force_knob, identity, knob, name_knob
from llmctl.console import console
from llmctl.errors import ConfigError
from llmctl.figures import count

if TYPE_CHECKING:
    from llmctl.workspace import Artifact, ModelSource, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportModel:
    """Take a model from outside into the workspace."""

    model: str = knob(
        help="A hub id (organisation/name), or a folder that transformers or PEFT saved",
        positional=True, metavar="REPO|DIR", identity=False,
    )  # fmt: skip
    revision: str | None = knob(
        None, help="A branch, tag or commit of the repository", panel="Input", identity=False
    )
    base: str | None = knob(
        None, help="The model that an adapter was made for", panel="Input",
        metavar="REPO|DIR|NAME", identity=False,
    )  # fmt: skip
    name: str | None = name_knob("The model; what it is called outside by default")
    force: bool = force_knob()
    dry_run: bool = dry_run_knob()


def run(config: ImportModel, workspace: Workspace) -> Artifact | dict[str, Any]:
    """Check a model and copy it to `models/NAME`; an adapter is merged onto its base.

    >>> run(ImportModel(model="HuggingFaceTB/SmolLM2-135M"), workspace).facts["family"]
    'llama'
    """
    from llmctl.data.tokenizer import Tokenizer
    from llmctl.model.checkpoint import load_model, read_shape

    name = config.name or _name(config.model)
    source, base = _sources(config, workspace)
    whole = base or source
    shape = read_shape(whole.path)
    texts = source.path if (source.path / "tokenizer.json").is_file() else whole.path
    tokenizer = Tokenizer.load(texts)
    facts: dict[str, Any] = {
        "parameters": shape.parameters,
        "family": shape.family,
        "context": shape.context,
        "vocab_size": shape.vocab_size,
    }
    told = f"{shape.family}, {count(shape.parameters)} parameters, context {shape.context:,}"
    if tokenizer.vocab_size > shape.vocab_size:
        console.warn(
            f"the tokenizer knows {tokenizer.vocab_size:,} tokens, the model {shape.vocab_size:,}:"
            " a text with one of the others cannot be read"
        )
    if config.dry_run:
        workspace.check_name(name)
        console.say(f"would make models/{name} of {source.label}: {told}")
        return {"plan": {"kind": "model", "name": name} | facts}
    settings: dict[str, Any] = {
        "config": identity(config),
        "inputs": [one.input for one in (source, base) if one is not None],
    }
    made = None if config.force else workspace.made("model", name, **settings)
    if made:
        console.already_made(made)
        return made
    with workspace.draft("model", name, **settings, force=config.force) as draft:
        with console.status(f"checking and copying {source.label}"):
            if base is None:
                # Reads every number and keeps none: what does not fit together is refused here.
                load_model(source.path, device="meta")
                _copy(source.path, draft.path)
            else:
                _merge(source.path, base.path, draft.path)
                _copy(texts, draft.path, but=("config.json", "model"))
        sort = "chat-lm" if "chat_template" in tokenizer.config else "causal-lm"
        artifact = draft.finish(facts=facts, sort=sort)
    console.made(artifact, told)
    console.next(f'llmctl generate --model {name} "Once upon a time"')
    return artifact


def _name(reference: str) -> str:
    """What a folder or a repository is called, as a name of the workspace."""
    return Path(reference).expanduser().resolve().name.lstrip("._-")


def _sources(config: ImportModel, workspace: Workspace) -> tuple[ModelSource, ModelSource | None]:
    """The model, and where it is an adapter the base that it goes onto."""
    from llmctl.hub import is_hub_id

    folder = Path(config.model).expanduser()
    if not folder.is_dir() and not is_hub_id(config.model):
        raise ConfigError(
            f"there is no folder `{config.model}`, and it is no hub id",
            hint="a hub id is organisation/name, such as openai-community/gpt2",
        )
    if folder.is_dir() and config.revision:
        raise ConfigError(
            "a folder has no revisions", hint="leave `--revision` out, or give a hub id"
        )
    reference = str(folder) if folder.is_dir() else config.model
    with console.status(f"looking at {config.model}"):
        source = workspace.model_source(
            reference, revision=config.revision, weights=not config.dry_run
        )
    is_adapter = not (source.path / "config.json").is_file()
    if is_adapter and config.base is None:
        raise ConfigError(
            f"{source.label} is an adapter, which is nothing without its model",
            hint=f"add `--base {_base_name(source.path)}`",
        )
    if config.base is None:
        return source, None
    if not is_adapter:
        raise ConfigError(
            f"{source.label} is a whole model, so there is no base to merge it onto",
            hint="leave `--base` out",
        )
    with console.status(f"looking at {config.base}"):
        return source, workspace.model_source(config.base, weights=not config.dry_run)


def _base_name(adapter: Path) -> str:
    """What the folder of an adapter says that it was made for."""
    from llmctl.model.checkpoint import read_json

    return str(read_json(adapter / "adapter_config.json").get("base_model_name_or_path", "MODEL"))


def _copy(source: Path, target: Path, *, but: tuple[str, ...] = ()) -> None:
    """Copy what a model folder is made of, and nothing else that lies there."""
    from llmctl.workspace import MODEL_FILES

    for pattern in MODEL_FILES:
        for file in source.glob(pattern):
            if not file.name.startswith(("adapter_", *but)):
                shutil.copyfile(file, target / file.name)


def _merge(adapter: Path, base: Path, target: Path) -> None:
    """Write the model that an adapter makes of its base, in the type of the base."""
    from llmctl.model.adapters import load_adapter, merge_adapters
    from llmctl.model.checkpoint import load_model, save_model

    model = load_model(base)
    load_adapter(model, adapter)
    merge_adapters(model)
    save_model(model.state_dict(), model.shape, target, dtype=model.head_weight.dtype)
    if (base / "generation_config.json").is_file():
        shutil.copyfile(base / "generation_config.json", target / "generation_config.json")
