"""What a person says of a run -> the network and the tokens that are meant."""

import json
import math
from pathlib import Path
from typing import NamedTuple

from llmctl.costs import network as networks
from llmctl.costs.flops import Stage
from llmctl.costs.network import Network
from llmctl.costs.scaling import TOKENS_PER_PARAMETER, compute_optimal_tokens
from llmctl.errors import ConfigError

WORDS, TOKENS = 3, 4  # three words of English are about four tokens
DEFAULT_EXAMPLES = 10_000


class Text(NamedTuple):
    """How much is trained on, as it was said."""

    tokens: int | None = None
    words: int | None = None
    examples: int | None = None
    tokens_per_example: int = 500
    epochs: float = 3.0


def named_network(name: str, context: int | None = None) -> Network:
    """The network of a published name, of a config.json or of the folder that holds one."""
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        if file.suffix == ".json" or path.is_dir():
            raise ConfigError(f"{file} is not there", hint="it should be a model's config.json")
        return networks.published(name).with_context(context)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{file} is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise ConfigError(f"{file} holds no config of a model")
    named = file.resolve().parent.name if file.name == "config.json" else file.stem
    return networks.from_config(said, name=named).with_context(context)


def tokens_of(text: Text, network: Network, stage: Stage) -> tuple[float, str]:
    """Tokens that pass the network, epochs included, and what to say of how they were found."""
    for name in ("tokens", "words", "examples", "tokens_per_example", "epochs"):
        value = getattr(text, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(
                f"`--{name.replace('_', '-')}` cannot be {value}", hint="say a number above zero"
            )
    if text.tokens is not None and text.words is not None:
        raise ConfigError("both tokens and words are given", hint="leave one of them out")
    if text.tokens is not None:
        return text.tokens, ""
    if text.words is not None:
        tokens = text.words * TOKENS / WORDS
        return tokens, (
            f"{text.words:,} words are about {tokens:,.0f} tokens, {TOKENS} for {WORDS};"
            ' the famous "300 billion words" of GPT-3 are tokens'
        )
    if stage == "pretrain":
        tokens = compute_optimal_tokens(network.active)
        return tokens, (
            f"no `--tokens` given: {tokens:,.0f} are compute-optimal,"
            f" {TOKENS_PER_PARAMETER} a parameter (arXiv 2203.15556)"
        )
    examples = text.examples or DEFAULT_EXAMPLES
    tokens = examples * text.tokens_per_example * text.epochs
    if stage == "prefer":
        tokens *= 2  # a chosen and a rejected answer
    return tokens, (
        f"{examples:,} examples x {text.tokens_per_example:,} tokens x {text.epochs:g} epochs"
        f"{' x 2 answers' if stage == 'prefer' else ''} are {tokens:,.0f} tokens"
    )
