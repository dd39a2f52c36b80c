"""What a user calls a tokenizer -> the tokenizer: a folder, a tokenizer.json or a hub id.

Opens a connection for what looks like `organisation/name` and is no path, else never.
"""

import re
from pathlib import Path

from llmctl.data.tokenizer import JSON_FILE, Tokenizer
from llmctl.data.tokenizer_roles import FILES_BESIDE
from llmctl.errors import ConfigError, RemoteError
from llmctl.registry import load

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def tokenizer_from(reference: str, *, endpoint: str | None = None) -> Tokenizer:
    """Load the tokenizer that a reference names.

    `endpoint` is the address of the hub, else huggingface_hub's own (`$HF_ENDPOINT`); what was
    fetched once is found again without a network. Raises ConfigError for what is no tokenizer
    and RemoteError where the hub does not answer or refuses.
    """
    path = Path(reference).expanduser()
    if path.exists():
        return Tokenizer.load(path)
    if not HUB_ID.fullmatch(reference):
        raise ConfigError(
            f"there is no tokenizer `{reference}`",
            hint=f"give a folder with a {JSON_FILE}, that file, or a hub id: organisation/name",
        )
    folder = _fetch(reference, endpoint)
    if not (folder / JSON_FILE).is_file():
        raise ConfigError(
            f"`{reference}` has no {JSON_FILE} on the hub",
            hint="save it once through AutoTokenizer of transformers, and give that folder",
        )
    return Tokenizer.load(folder)


def _fetch(repository: str, endpoint: str | None) -> Path:
    """The folder with a repository's tokenizer files and nothing else, fetched where needed."""
    try:
        folder = load("huggingface_hub:snapshot_download")(
            repository, allow_patterns=[JSON_FILE, *FILES_BESIDE], endpoint=endpoint
        )
    except Exception as error:  # HTTP, sockets, quotas and names: each has a class of its own
        reason = str(error).partition("\n")[0]
        raise RemoteError(
            f"the hub did not give the tokenizer `{repository}`: {reason}",
            hint="check the name and the network; a local folder needs neither",
        ) from error
    return Path(folder)
