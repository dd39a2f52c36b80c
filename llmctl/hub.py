"""A repository on the hub -> a folder here, of one commit: fetched once, found again offline.

huggingface_hub does the work, and listens to `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_HOME` and
`HF_ENDPOINT`. Knows nothing of what is in a repository.
"""

import errno
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from llmctl.errors import LlmctlError, RemoteError, TrainingError
from llmctl.registry import load

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
HTTP_UNAUTHORIZED, HTTP_TOO_MANY = 401, 429


class Snapshot(NamedTuple):
    """The files of a repository in a folder of the cache, and the commit (40 hex) they are of."""

    path: Path
    revision: str


def is_hub_id(reference: str) -> bool:
    """Whether a reference has the form `organisation/name` and is no path that stands here.

    >>> is_hub_id("openai-community/gpt2"), is_hub_id("./models/gpt2")
    (True, False)
    """
    return bool(HUB_ID.fullmatch(reference)) and not Path(reference).exists()


def fetch(
    repository: str,
    *,
    patterns: Sequence[str],
    revision: str | None = None,
    endpoint: str | None = None,
) -> Snapshot:
    """The files of a repository that match one of `patterns`, of a branch, tag or commit.

    What is in the cache is not fetched again, and is enough where the hub does not answer.
    Raises RemoteError, with what to do, where the hub is silent or refuses, TrainingError where
    the disk is full.
    """
    load("huggingface_hub.utils:disable_progress_bars")()
    try:
        folder = load("huggingface_hub:snapshot_download")(
            repository, revision=revision, allow_patterns=list(patterns), endpoint=endpoint
        )
    except Exception as error:  # HTTP, sockets, quotas and names: each has a class of its own
        page = f"{endpoint or load('huggingface_hub.constants:ENDPOINT')}/{repository}"
        raise _refusal(error, repository, revision, page) from error
    return Snapshot(Path(folder), Path(folder).name)


def _refusal(error: Exception, repository: str, revision: str | None, page: str) -> LlmctlError:
    errors = load("huggingface_hub:errors")
    causes = list(_causes(error))
    answers = [getattr(one, "response", None) for one in causes]
    status = next((one.status_code for one in answers if one is not None), None)
    if any(getattr(one, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for one in causes):
        return TrainingError(
            f"the disk is full: `{repository}` could not be fetched",
            hint="free some space, or let HF_HOME name a folder on another disk",
        )
    if any(isinstance(one, errors.OfflineModeIsEnabled) for one in causes):
        return RemoteError(
            f"`{repository}` was not fetched before, and HF_HUB_OFFLINE forbids to ask the hub",
            hint="unset HF_HUB_OFFLINE, or give a local folder",
        )
    match error:
        case errors.GatedRepoError():
            return RemoteError(
                f"`{repository}` is gated: its owners want to be asked first",
                hint=f"ask at {page}, then set HF_TOKEN to a token of yours",
            )
        case errors.RepositoryNotFoundError():
            return RemoteError(
                f"there is no repository `{repository}` on the hub, or it is private",
                hint=f"check the name at {page}; a private one needs HF_TOKEN",
            )
        case errors.RevisionNotFoundError():
            return RemoteError(
                f"`{repository}` has no revision `{revision}`",
                hint=f"its branches, tags and commits are at {page}/commits",
            )
        case errors.LocalEntryNotFoundError() if status is None:
            return RemoteError(
                f"the hub cannot be reached for `{repository}`: {_reason(causes[-1])}",
                hint="check the network; a local folder needs none",
            )
        case _ if status == HTTP_UNAUTHORIZED:
            return RemoteError(
                "the hub does not accept the token in HF_TOKEN",
                hint="make a new one at https://huggingface.co/settings/tokens, or unset it",
            )
        case _ if status == HTTP_TOO_MANY:
            return RemoteError(
                f"the hub refuses to give `{repository}` now: too many requests",
                hint="wait a few minutes; with HF_TOKEN set the limit is higher",
            )
        case _:
            return RemoteError(
                f"the hub did not give `{repository}`: {_reason(causes[-1])}",
                hint="try again later; a local folder needs no hub",
            )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
