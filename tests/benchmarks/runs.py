"""A training text -> tokens, a piece of them held out; knobs of `pretrain` -> what a run did.

What the scripts that train many small models have in common. Their score is of a piece of the
training text itself: nothing is chosen on the text that other benchmarks validate on. A finished
run stands in the workspace and is not run again, so that a script that was stopped goes on.
"""

from pathlib import Path
from typing import Any

from llmctl.config import accept, from_dict, knobs
from llmctl.console import console
from llmctl.data.sources.files import Files
from llmctl.errors import ConfigError
from llmctl.registry import suggest
from llmctl.stages.collect import Collect
from llmctl.stages.collect import run as collect
from llmctl.stages.pretrain import Pretrain
from llmctl.stages.pretrain import run as pretrain
from llmctl.stages.tokenize import Tokenize
from llmctl.stages.tokenize import run as tokenize
from llmctl.workspace import Artifact, Workspace

HELD_OUT = 0.02


def workspace_of(text: Path, out: Path, vocabulary: str) -> Workspace:
    """A workspace with the tokens of a text; the vocabulary is `byte` or a count of entries."""
    console.configure(is_quiet=True)
    workspace = Workspace(out)
    collect(Collect(source=Files(paths=(str(text.resolve()),)), name="text"), workspace)
    kind: dict[str, Any] = {"level": "byte"}
    if vocabulary != "byte":
        kind = {"vocab_size": int(vocabulary)}
    name = f"text-{vocabulary}"
    tokenize(Tokenize(validation=str(HELD_OUT), name=name, tokenizer_name=name, **kind), workspace)
    return workspace


def trained(workspace: Workspace, name: str, knobs_of_it: dict[str, Any]) -> dict[str, Any]:
    """The facts of a run of `pretrain`, which is made unless it stands."""
    made = pretrain(from_dict(Pretrain, {"name": name} | knobs_of_it), workspace)
    assert isinstance(made, Artifact)
    return made.facts


def read_knob(key: str, text: str) -> Any:
    """The value of a knob of `pretrain`, as its flag would read it."""
    leaves = {leaf.key: leaf for leaf in knobs(Pretrain)}
    key = key.replace("-", "_")
    if key not in leaves:
        raise ConfigError(f"`pretrain` has no knob `{key}`", hint=suggest(key, leaves))
    return accept(leaves[key], text, label=f"`{key}`", words=True)
