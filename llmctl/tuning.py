"""What both kinds of fine-tuning ask of their knobs: where the rows come from, and adapters."""

from collections.abc import Collection
from typing import Any

from llmctl.config import refuse_idle
from llmctl.errors import ConfigError

# Methods that train adapters.
WITH_ADAPTERS = ("lora", "qlora")


def check_source(config: Any, reading: Collection[str], *, rows: str) -> None:
    """Raise ConfigError unless a file, or else labelled data, says which `rows` to learn from.

    Knobs of `reading` decide how a file is read, and are nothing to data that are made.
    """
    if config.file is None and config.data is None:
        raise ConfigError(
            f"say which {rows} to learn from", hint="a file, or `--data NAME` of the workspace"
        )
    if config.file is not None and config.data is not None:
        raise ConfigError(
            f"a file and `--data` both say which {rows} to learn from", hint="give one of them"
        )
    if config.data is not None:
        refuse_idle(
            config,
            *reading,
            because=f"`--data {config.data}` is read and split already",
            hint="leave that out, or give the file with it and another `--name`",
        )


def check_adapters(config: Any, adapters: Collection[str]) -> None:
    """Raise ConfigError where knobs of adapters were given and the method has none."""
    if config.method not in WITH_ADAPTERS:
        refuse_idle(
            config,
            *adapters,
            because=f"`--method {config.method}` trains without adapters",
            hint="`--method lora` has them",
        )
