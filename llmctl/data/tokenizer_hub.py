"""What a user calls a tokenizer -> the tokenizer: a folder, a tokenizer.json or a hub id.

Opens a connection for what looks like `organisation/name` and is no path, else never.
"""

from pathlib import Path

from llmctl.data.tokenizer import JSON_FILE, Tokenizer
from llmctl.data.tokenizer_roles import FILES_BESIDE
from llmctl.errors import ConfigError
from llmctl.hub import fetch, is_hub_id


def tokenizer_from(reference: str, *, endpoint: str | None = None) -> Tokenizer:
    """Load the tokenizer that a reference names.

    `endpoint` is the address of the hub, else huggingface_hub's own (`$HF_ENDPOINT`); what was
    fetched once is found again without a network. Raises ConfigError for what is no tokenizer
    and RemoteError where the hub does not answer or refuses.
    """
    path = Path(reference).expanduser()
    if path.exists():
        return Tokenizer.load(path)
    if not is_hub_id(reference):
        raise ConfigError(
            f"there is no tokenizer `{reference}`",
            hint=f"give a folder with a {JSON_FILE}, that file, or a hub id: organisation/name",
        )
    folder = fetch(reference, patterns=(JSON_FILE, *FILES_BESIDE), endpoint=endpoint).path
    if not (folder / JSON_FILE).is_file():
        raise ConfigError(
            f"`{reference}` has no {JSON_FILE} on the hub",
            hint="save it once through AutoTokenizer of transformers, and give that folder",
        )
    return Tokenizer.load(folder)
