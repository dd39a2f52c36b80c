"""A model that was taught to answer and what you say -> a conversation, in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmctl.config import knob, parse_count
from llmctl.console import console
from llmctl.errors import ConfigError

if TYPE_CHECKING:
    from llmctl.workspace import Workspace

LEAVE = ("/exit", "/quit")
ANEW = "/new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Talk with a model."""

    messages: tuple[str, ...] = knob(
        (), help="What you say, one message each; asked for in a terminal otherwise",
        positional=True, metavar="MESSAGE",
    )  # fmt: skip
    model: str | None = knob(
        None, help="A NAME, folder or hub id; the newest that answers by default", panel="Model",
        metavar="NAME|DIR",
    )  # fmt: skip
    system: str | None = knob(None, help="How it is to behave", panel="Input")
    max_tokens: int = knob(
        256, help="Stop after so many tokens", panel="Sampling", parse=parse_count
    )
    temperature: float = knob(0.7, help="0 takes the likeliest token", panel="Sampling")
    top_k: int | None = knob(None, help="Choose among the k likeliest", panel="Sampling")
    top_p: float = knob(
        0.95, help="Choose among the likeliest that hold this much", panel="Sampling"
    )
    min_p: float = knob(
        0.0, help="Leave out what is this much less likely than the top", panel="Sampling"
    )
    seed: int = knob(0, help="The same seed answers the same", panel="Sampling")
    device: str = knob("auto", help="auto, cpu, cuda or mps", panel="Machine", rare=True)


def run(config: Chat, workspace: Workspace) -> dict[str, Any]:
    """Answer each message in turn, all before it in mind; the conversation as data.

    >>> run(Chat(messages=("What do you sell?",)), workspace)["messages"][-1]["role"]
    'assistant'
    """
    from llmctl.data.labeled.conversations import ASSISTANT, SYSTEM, USER, Message
    from llmctl.infer.engine import Engine
    from llmctl.infer.sampling import Sampling

    if not config.messages and console.is_json and sys.stdin.isatty():
        raise ConfigError("there is nothing to answer", hint='give one: `llmctl chat "Hello"`')
    source = workspace.model_source(config.model, sorts=("chat-lm", "causal-lm"))
    if config.model is None:
        console.note(f"talking with {source.label}")
    engine = Engine.open(source.path, device=config.device)
    sampling = Sampling(
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        min_p=config.min_p,
        seed=config.seed,
    )
    opening = [Message(SYSTEM, config.system)] if config.system else []
    said = [*opening]
    for text in _messages(config):
        if text == ANEW:
            said = [*opening]
            continue
        said.append(Message(USER, text))
        (answer,) = engine.answer(
            [said], sampling, on_text=lambda _, piece: console.data(piece, end="")
        )
        console.data()
        if answer.truncated:
            console.warn("the conversation is too long for the model; its beginning is left out")
        said.append(Message(ASSISTANT, answer.text))
    return {"messages": [{"role": one.role, "content": one.content} for one in said]}


def _messages(config: Chat) -> Iterator[str]:
    """What the user says: as given, else line by line until they leave."""
    from llmctl.data.formats.plain import piped_text

    if config.messages:
        yield from config.messages
        return
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        console.note(f"{ANEW} begins anew, {LEAVE[0]} or Ctrl-D leaves")
    while True:
        if is_terminal:
            console.ask()
        line = sys.stdin.readline() if is_terminal else piped_text(sys.stdin.buffer.readline())
        if not line or line.strip() in LEAVE:
            return
        if line.strip():
            yield line.strip()
