"""A model and prompts -> texts that it writes on from them."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.config import knob, parse_count
from llmctl.console import console
from llmctl.errors import ConfigError

if TYPE_CHECKING:
    from llmctl.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Let a model write on from a prompt."""

    prompts: tuple[str, ...] = knob(
        (),
        help="The beginning of a text, else from stdin",
        positional=True,
        metavar="PROMPT",
    )
    file: Path | None = knob(None, help="Read prompts from a file, one a line", panel="Input")
    model: str | None = knob(
        None, help="A NAME, NAME@STEP or folder; the newest by default", panel="Model",
        metavar="NAME|DIR",
    )  # fmt: skip
    max_tokens: int = knob(
        100, help="Stop after so many tokens", panel="Sampling", parse=parse_count
    )
    temperature: float = knob(0.8, help="0 takes the likeliest token", panel="Sampling")
    top_k: int | None = knob(None, help="Choose among the k likeliest", panel="Sampling")
    top_p: float = knob(
        1.0, help="Choose among the likeliest that hold this much", panel="Sampling"
    )
    min_p: float = knob(
        0.05, help="Drop what is less likely than this share of the likeliest", panel="Sampling"
    )
    stop: tuple[str, ...] = knob((), help="Stop before this text", panel="Sampling", metavar="TEXT")
    seed: int = knob(0, help="The same seed writes the same text", panel="Sampling")
    batch: int = knob(16, help="Prompts written on at once", panel="Machine", rare=True)
    device: str = knob("auto", help="auto, cpu, cuda or mps", panel="Machine", rare=True)


def run(config: Generate, workspace: Workspace) -> dict[str, Any]:
    """Write on from every prompt; the text streams to stdout where there is one prompt.

    >>> run(Generate(prompts=("Once upon a time",)), workspace)["completions"][0]["finish_reason"]
    'length'
    """
    from llmctl.infer.engine import Engine
    from llmctl.infer.sampling import Sampling

    prompts = _prompts(config)
    source = workspace.model_source(config.model, sorts=("causal-lm", "chat-lm"))
    if config.model is None:
        console.note(f"writing with {source.label}")
    engine = Engine.open(source.path, device=config.device, rows=config.batch)
    sampling = Sampling(
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        min_p=config.min_p,
        stop=config.stop,
        seed=config.seed,
    )
    began = time.perf_counter()
    streams = len(prompts) == 1
    if streams:
        console.data(prompts[0], end="")
    on_text = (lambda _, text: console.data(text, end="")) if streams else None
    completions = engine.generate(prompts, sampling, on_text=on_text)
    seconds = time.perf_counter() - began
    if streams:
        console.data()
    for one in [] if streams else completions:
        console.data(f"{one.prompt}{one.text}\n")
    for one in completions:
        if one.truncated:
            console.warn("the prompt was longer than the model's context; only its end was read")
    tokens = sum(one.tokens for one in completions)
    console.note(f"{tokens:,} tokens, {tokens / seconds:,.0f} a second")
    return {
        "completions": [
            {
                "prompt": one.prompt,
                "text": one.text,
                "tokens": one.tokens,
                "finish_reason": one.finish_reason,
            }
            for one in completions
        ],
        "tokens_per_second": round(tokens / seconds, 1),
    }


def _prompts(config: Generate) -> list[str]:
    from llmctl.data.document import Rejected
    from llmctl.data.formats.plain import piped_text, readable_lines

    prompts = list(config.prompts)
    if config.file:
        lines = readable_lines(config.file)
        prompts += [one.text for one in lines if not isinstance(one, Rejected)]
    elif not prompts and not sys.stdin.isatty():
        # The line that a shell ends is no line of the text.
        prompts = [piped_text(sys.stdin.buffer.read()).removesuffix("\n")]
    prompts = [prompt for prompt in prompts if prompt.strip()]
    if not prompts:
        raise ConfigError(
            "there is no prompt", hint='give one: `llmctl generate "Once upon a time"`'
        )
    return prompts
