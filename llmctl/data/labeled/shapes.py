"""Rows in the shapes that instruction data comes in -> the turns of conversations.

Alpaca, prompt/completion, ShareGPT, OpenAI messages, OASST trees, questions and answers, any
two columns, or whatever the user's templates say. Knows nothing of which turns are allowed.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llmctl.data.labeled.columns import NO_RANK, Column, rank
from llmctl.data.labeled.table import Table, is_blank
from llmctl.data.labeled.templates import fill, parse
from llmctl.data.labeled.turns import (
    TALK_KEYS,
    Turn,
    listed,
    messages_of,
    read_message,
    read_messages,
    written,
)
from llmctl.errors import ConfigError, DataError

SAMPLE = 100  # rows that decide on the shape
ENOUGH = 20  # rows that show whether a column holds labels
TALKS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns", "data")
SYSTEMS = ("system", "system_prompt", "system_message")
# What was asked, what else it refers to, and what was answered; the most usual names first.
PROMPTS = (
    "prompt question instruction query user input problem request message utterance "
    "customer source text q"
).split()
INPUTS = ("input", "context", "passage")
RESPONSES = (
    "completion response output answer reply assistant chosen target solution "
    "answers responses completions resolution agent summary a"
).split()
EXPECTED = (
    "a row needs `messages`, `conversations`, `instruction` and `output`, `prompt` and "
    "`completion`, or `question` and `answer`; map other columns with "
    "--prompt '{column}' --response '{column}'; labels are for `llmctl finetune classify`"
)

Turns = Sequence[Turn]
# The conversations of a row, usually one; None for a row that is a part of another one's.
Reader = Callable[[Mapping[str, Any]], Sequence[Turns] | None]


@dataclass(frozen=True, slots=True)
class Shape:
    """A recognised shape: its name, the columns that it reads, and how it reads a row.

    What `is_talk` holds turns with their roles, which no template maps otherwise.
    """

    name: str
    columns: tuple[str, ...]
    read: Reader
    is_talk: bool = False

    @property
    def told(self) -> str:
        """The shape as a sentence says it."""
        return f"{self.name} ({named(self.columns)})"


def recognise(
    table: Table,
    *,
    prompt: str | None = None,
    response: str | None = None,
    system: str | None = None,
) -> Shape:
    """The shape of a table, or the one that templates give it.

    Raises DataError where it has none of those known, ConfigError for a wrong template.
    """
    names = (*table.names, *table.sparse)
    if prompt is None and response is None:
        shape = _guess(names, table)
    elif prompt is None or response is None:
        missing = "prompt" if prompt is None else "response"
        raise ConfigError(
            f"`--{missing}` is missing",
            hint="give both: --prompt '… {column} …' --response '… {column} …'; "
            f"the columns are {named(names)}",
        )
    else:
        shape = _mapped(names, prompt, response)
    return shape if system is None else _with_system(shape, names, system)


def named(names: Sequence[str]) -> str:
    """Names of columns as a sentence has them."""
    return ", ".join(f"`{name}`" for name in names[:20])


def _guess(names: Sequence[str], table: Table) -> Shape:
    for read in (_talk, _forest, _tree, _alpaca, _pair, _two_columns):
        shape = read(names, table)
        if shape is not None:
            return shape
    if len(names) == 1:
        raise DataError(
            f"there are texts and no answers: the only column is `{names[0]}`",
            hint="a model learns from plain text by `llmctl pretrain --base MODEL`",
        )
    raise DataError(f"no conversations are known with the columns {named(names)}", hint=EXPECTED)


def _talk(names: Sequence[str], table: Table) -> Shape | None:
    """A column with lists of messages, whoever names their fields."""
    order = [*TALKS, "prompt", "chosen"]
    for name in sorted(names, key=lambda one: rank(one, order)):
        found = (listed(one.values.get(name)) for one in table.records[:SAMPLE])
        first = next((talk[0] for talk in found if talk), None)
        title = _talk_title(name, first)
        if title:
            return _talk_shape(title, name, names)
    return None


def _talk_title(name: str, first: Any) -> str:
    """What a list that begins so is; empty where it holds no messages."""
    if isinstance(first, str):
        return "turns in a list" if name.lower() in TALKS else ""
    if first is None or name == "rejected" or "replies" in first or TALK_KEYS.isdisjoint(first):
        return ""
    return "ShareGPT" if "from" in first else "OpenAI messages"


def _talk_shape(title: str, talk: str, names: Sequence[str]) -> Shape:
    answer = next((one for one in ("completion", "chosen") if one in names and one != talk), "")
    system = next((one for one in names if one.lower() in SYSTEMS), "")

    def read(values: Mapping[str, Any]) -> Sequence[Turns]:
        said = [*read_messages(values.get(talk))]
        if said and said[-1].role == "user" and not is_blank(values.get(answer)):
            said += messages_of(values[answer], "assistant")
        return [[*_system(values, system), *said]] if said else []

    return Shape(title, tuple(filter(None, (system, talk, answer))), read, is_talk=True)


def _tree(names: Sequence[str], table: Table) -> Shape | None:
    """A message with the replies to it, and those to them (OpenAssistant)."""
    for name in names:
        values = (one.values.get(name) for one in table.records[:SAMPLE])
        if any(isinstance(value, dict) and "replies" in value for value in values):
            title = "OASST trees, a conversation for each last answer"
            return Shape(title, (name,), partial(_tree_paths, name), is_talk=True)
    return None


def _tree_paths(name: str, values: Mapping[str, Any]) -> Sequence[Turns]:
    return [*_paths(values.get(name))]


def _forest(names: Sequence[str], table: Table) -> Shape | None:
    """A row for each message, with the id of the one that it replies to (OpenAssistant)."""
    columns = ("message_id", "parent_id", "role", "text")
    if not {*columns} <= {*names}:
        return None
    replies: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for record in table.records:
        replies[record.values.get("parent_id")].append(record.values)

    def grown(values: Mapping[str, Any]) -> dict[str, Any]:
        below = replies.get(values.get("message_id"), [])
        return {**values, "replies": [grown(one) for one in below]}

    def read(values: Mapping[str, Any]) -> Sequence[Turns] | None:
        return [*_paths(grown(values))] if is_blank(values.get("parent_id")) else None

    title = "OASST messages, a conversation for each last answer"
    return Shape(title, columns, read, is_talk=True)


def _alpaca(names: Sequence[str], _: Table) -> Shape | None:
    by_name = {name.lower(): name for name in names}
    instruction = by_name.get("instruction")
    output = next((by_name[one] for one in RESPONSES if one in by_name), "")
    if instruction is None:
        return None
    if not output and "instances" in by_name:
        return _self_instruct(instruction, by_name["instances"])
    if not output:
        return None
    extra = next((by_name[one] for one in INPUTS if one in by_name), "")
    history = by_name.get("history", "")
    system = next((by_name[one] for one in SYSTEMS if one in by_name), "")

    def read(values: Mapping[str, Any]) -> Sequence[Turns]:
        return [
            [
                *_system(values, system),
                *_history(values.get(history)),
                Turn("user", _joined(values.get(instruction), values.get(extra))),
                *messages_of(values.get(output), "assistant"),
            ]
        ]

    columns = tuple(filter(None, (system, history, instruction, extra, output)))
    return Shape("Alpaca", columns, read)


def _self_instruct(instruction: str, instances: str) -> Shape:
    """Tasks with several pairs of input and output each."""

    def read(values: Mapping[str, Any]) -> Sequence[Turns]:
        pairs = values.get(instances)
        return [
            [
                Turn("user", _joined(values.get(instruction), pair.get("input"))),
                Turn("assistant", written(pair.get("output"))),
            ]
            for pair in (pairs if isinstance(pairs, list) else [])
            if isinstance(pair, dict)
        ]

    return Shape("Alpaca with several instances", (instruction, instances), read)


def _pair(names: Sequence[str], _: Table) -> Shape | None:
    """A question and an answer, whatever their names say exactly."""
    prompt = min(names, key=lambda one: rank(one, PROMPTS), default="")
    others = [name for name in names if name != prompt]
    response = min(others, key=lambda one: rank(one, RESPONSES), default="")
    if NO_RANK in (rank(prompt, PROMPTS), rank(response, RESPONSES)):
        return None
    extra = next((one for one in others if one.lower() in INPUTS and one != response), "")
    system = next((one for one in others if one.lower() in SYSTEMS), "")

    def read(values: Mapping[str, Any]) -> Sequence[Turns]:
        return [
            [
                *_system(values, system),
                Turn("user", _joined(values.get(extra), written(values.get(prompt)))),
                *messages_of(values.get(response), "assistant"),
            ]
        ]

    columns = tuple(filter(None, (system, extra, prompt, response)))
    return Shape("prompt and response", columns, read)


def _two_columns(names: Sequence[str], table: Table) -> Shape | None:
    if len(table.names) != 2 or len(names) != 2:
        return None
    columns = [Column(name, table.records) for name in names]
    if not all(column.is_text for column in columns):
        return None
    labels = next((one for one in columns if one.rows >= ENOUGH and one.may_be_label), None)
    if labels:
        raise DataError(
            f"the column `{labels.name}` holds {labels.distinct} labels, not answers",
            hint="learn labels with `llmctl finetune classify`, or map the columns: "
            "--prompt '{column}' --response '{column}'",
        )
    first, second = names
    shape = _mapped(names, f"{{{first}}}", f"{{{second}}}")
    return replace(shape, name="two columns, the question first")


def _mapped(names: Sequence[str], prompt: str, response: str) -> Shape:
    asked, answered = parse(prompt, names, "--prompt"), parse(response, names, "--response")

    def read(values: Mapping[str, Any]) -> Sequence[Turns]:
        return [[fill("user", asked, values), fill("assistant", answered, values)]]

    columns = dict.fromkeys((*asked.fields, *answered.fields))
    return Shape("your templates", tuple(columns), read)


def _with_system(shape: Shape, names: Sequence[str], system: str) -> Shape:
    said = parse(system, names, "--system", fixed=True)

    def read(values: Mapping[str, Any]) -> Sequence[Turns] | None:
        found = shape.read(values)
        return found and [
            [fill("system", said, values), *(one for one in turns if one.role != "system")]
            for turns in found
        ]

    return replace(shape, columns=(*said.fields, *shape.columns), read=read)


def _system(values: Mapping[str, Any], column: str) -> Iterator[Turn]:
    if not is_blank(values.get(column)):
        yield Turn("system", written(values[column]))


def _history(value: Any) -> Iterator[Turn]:
    for pair in value if isinstance(value, list) else []:
        if isinstance(pair, list | tuple) and len(pair) == 2:
            yield Turn("user", written(pair[0]))
            yield Turn("assistant", written(pair[1]))


def _paths(node: Any, before: Turns = ()) -> Iterator[Turns]:
    """Each way from the first message to an answer that has no further answer below it."""
    if not isinstance(node, dict):
        return
    turns = (*before, read_message(node))
    replies = node.get("replies")
    deeper = [path for one in replies or () for path in _paths(one, turns)]
    if deeper:
        yield from deeper
    elif turns[-1].role == "assistant":
        yield turns


def _joined(*values: Any) -> str:
    return "\n\n".join(written(value) for value in values if not is_blank(value))
