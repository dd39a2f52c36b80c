"""Messages as others write them down -> turns: a role that we know, and its words."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from llmctl.data.labeled.table import is_blank

ROLE_NAMES = {
    "system": "system developer",
    "user": "user human prompter customer client instruction question",
    "assistant": "assistant gpt chatgpt bot chatbot model ai agent answer bard bing function_call",
    "tool": "tool function observation function_response tool_response ipython environment",
}
MEANT = {name: role for role, names in ROLE_NAMES.items() for name in names.split()}
ROLE_KEYS = ("role", "from", "speaker", "author")
CONTENT_KEYS = ("content", "value", "text", "message")
TALK_KEYS = frozenset(ROLE_KEYS)
CALL_KEYS = ("tool_calls", "function_call")


class Turn(NamedTuple):
    """One side's words; `problem` is set where they cannot be read.

    An answer that is not `trained` was said, and is not to be learnt.
    """

    role: str
    content: str
    problem: str = ""
    trained: bool = True


def listed(value: Any) -> list[Any] | None:
    """A list of messages, also where it stands as JSON in a cell; None for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, list) and value and isinstance(value[0], dict | str):
        return value
    return None


def read_messages(value: Any) -> Iterator[Turn]:
    """The turns in a list of messages, or of texts by turns."""
    for place, one in enumerate(listed(value) or ()):
        if isinstance(one, str):
            yield Turn(("user", "assistant")[place % 2], one)
        elif isinstance(one, dict):
            yield read_message(one)
        else:
            yield Turn("", "", "a message that is no object")


def read_message(message: Mapping[str, Any]) -> Turn:
    """One message, whatever its fields are called."""
    named = next((message[key] for key in ROLE_KEYS if not is_blank(message.get(key))), None)
    if not isinstance(named, str):
        return Turn("", "", "a message without a role")
    role = MEANT.get(named.strip().lower())
    if role is None:
        return Turn("", "", f"unknown role `{named[:40]}`")
    call = next((key for key in CALL_KEYS if not is_blank(message.get(key))), None)
    if call is not None:
        return Turn(role, "", f"a tool call (`{call}`), which is no text")
    content = next((message[key] for key in CONTENT_KEYS if key in message), None)
    # As OpenAI has it: an answer of weight 0 is a part of the talk that is not to be learnt.
    is_trained = role != "assistant" or message.get("weight") != 0
    return _with_content(role, content)._replace(trained=is_trained)


def messages_of(value: Any, role: str) -> list[Turn]:
    """What stands in a column of answers: the text itself, a message or a list of them."""
    if isinstance(value, dict) and not TALK_KEYS.isdisjoint(value):
        return [read_message(value)]
    found = listed(value)
    if found and isinstance(found[0], dict) and not TALK_KEYS.isdisjoint(found[0]):
        return [*read_messages(value)]
    return [Turn(role, written(value))]


def written(value: Any) -> str:
    """A cell as text: the first of several, the `text` of an object, else as JSON has it."""
    match value:
        case str():
            return value
        case _ if is_blank(value):
            return ""
        case [first, *_]:
            return written(first)
        case {"text": text}:
            return written(text)
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)


def _with_content(role: str, content: Any) -> Turn:
    if not isinstance(content, list):
        return Turn(role, written(content))
    texts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        found = (part.get(key) for key in CONTENT_KEYS)
        text = next((one for one in found if isinstance(one, str)), None)
        if text is None or part.get("type", "text") != "text":
            return Turn(role, "", f"content of type `{part.get('type')}`, which is no text")
        texts.append(text)
    return Turn(role, "".join(texts))
