"""The files beside a tokenizer.json -> which of its tokens begin, end and pad a text.

Hugging Face folders say so in up to four places, by name or by id, and some say nothing.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers

from llmctl.errors import ConfigError

ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
FILES_WITH_NAMES = ("tokenizer_config.json", "special_tokens_map.json")
FILES_WITH_IDS = ("generation_config.json", "config.json")
CHAT_TEMPLATE_FILE = "chat_template.jinja"
FILES_BESIDE = (*FILES_WITH_NAMES, *FILES_WITH_IDS, CHAT_TEMPLATE_FILE)
# How well-known vocabularies end a text, for a tokenizer.json that stands alone.
USUAL_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")


def roles_beside(file: Path, backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """Read the roles of special tokens, and the chat template, from the folder of a tokenizer.json.

    Raises ConfigError where no token ends a text: without one, documents cannot be told apart.
    """
    roles: dict[str, Any] = {}
    for role in ROLES:
        for token in _candidates(role, file.parent, backend):
            if token and backend.token_to_id(token) is not None:
                roles[role] = token
                break
    if "eos_token" not in roles:
        raise ConfigError(
            f"the tokenizer `{file}` names no end-of-text token",
            hint=f'add `"eos_token"` to {FILES_WITH_NAMES[0]} beside it',
        )
    template = _chat_template(file.parent)
    return {**roles, "chat_template": template} if template else roles


def _candidates(role: str, folder: Path, backend: tokenizers.Tokenizer) -> Iterator[str | None]:
    """The tokens that the files propose for a role, the most explicit first."""
    for name in FILES_WITH_NAMES:
        token = _read(folder / name).get(role)
        yield token["content"] if isinstance(token, dict) else token
    for name in FILES_WITH_IDS:
        number = _read(folder / name).get(f"{role}_id")
        number = number[0] if isinstance(number, list) and number else number
        yield backend.id_to_token(number) if isinstance(number, int) else None
    if role == "eos_token":
        yield from USUAL_ENDS


def _chat_template(folder: Path) -> Any:
    file = folder / CHAT_TEMPLATE_FILE
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return _read(folder / FILES_WITH_NAMES[0]).get("chat_template")


def _read(file: Path) -> dict[str, Any]:
    """The JSON object in a file, empty where there is no such file."""
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(
            f"`{file}` is not JSON: {error}", hint="mend it, or remove it to go without"
        ) from error
