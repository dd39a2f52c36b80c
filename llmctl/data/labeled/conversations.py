"""A file of questions and answers, in any of the usual shapes -> conversations in three splits.

Which shape was recognised, what was dropped and why stand in `facts` and `remarks`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmctl.data.document import Rejected
from llmctl.data.formats.mending import mend, replace_surrogates
from llmctl.data.labeled.shapes import Shape, recognise
from llmctl.data.labeled.splits import (
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    check_shares,
    check_sides,
    side_form,
)
from llmctl.data.labeled.splits import split as split_rows
from llmctl.data.labeled.table import Table, cases, cases_by_reason, find_given_splits, read_table
from llmctl.data.labeled.turns import Turn
from llmctl.errors import DataError

ROLES = (SYSTEM, USER, ASSISTANT, TOOL) = ("system", "user", "assistant", "tool")
# Who may speak after whom; a conversation begins behind the system prompt.
FOLLOWERS = {
    SYSTEM: {USER},
    USER: {ASSISTANT},
    ASSISTANT: {USER, TOOL},
    TOOL: {ASSISTANT, TOOL},
}
COLUMNS_HINT = "say which columns to use: --prompt '{question}' --response '{answer}'"
TALK_HINT = (
    "mend these lines: questions and answers in turn, as text, behind a system prompt if any"
)
EMPTY = {USER: "empty question", ASSISTANT: "empty answer"}


@dataclass(frozen=True, slots=True)
class Message:
    """What one side said: `role` is `system`, `user`, `assistant` or `tool`.

    An answer that is not `trained` is read, and not learnt.
    """

    role: str
    content: str
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, the last by the assistant; `id` says where it stands: `data.json:12`."""

    id: str
    messages: tuple[Message, ...]

    @property
    def question(self) -> str:
        """What the user said first."""
        return next(one.content for one in self.messages if one.role == USER)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSet:
    """Conversations by split, and how they came about.

    `facts` are plain values: `shape`, `columns`, `rows` (by split), `duplicates_dropped`,
    `leaks`, `turns`, `rejected` (rows by reason) and `cases` (the first of each reason).
    """

    splits: dict[str, tuple[Conversation, ...]]
    facts: dict[str, Any]
    remarks: tuple[str, ...]


@dataclass(slots=True)
class _File:
    """What was read of one file, and what is to be said of it."""

    shape: Shape
    conversations: list[Conversation]
    rejected: list[Rejected]
    remarks: list[str]


def read_conversations(  # noqa: PLR0913
    path: Path,
    *,
    prompt: str | None = None,
    response: str | None = None,
    system: str | None = None,
    seed: int = 0,
    validation: float = 0.05,
    test: Path | None = None,
    test_share: float = 0.05,
) -> ConversationSet:
    """Read conversations and split them; no first question stands on two sides.

    `prompt`, `response` and `system` are templates such as `Case: {facts}`, whose fields are
    columns. Raises DataError that names what was found and what was expected, ConfigError for a
    template or shares that make no sense.

    >>> read_conversations(Path("alpaca.json")).facts["shape"]
    'Alpaca'
    """
    said = ""
    if test is None:
        path, test, said = find_given_splits(path)
    check_shares(validation, 0.0 if test else test_share)
    templates = {"prompt": prompt, "response": response, "system": system}
    file = _read(path, templates)
    rows, duplicates = _without_duplicates(file.conversations)
    given = None if test is None else _read(test, templates)
    held = {side_form(one.question) for one in given.conversations} if given else set[str]()
    kept = [one for one in rows if side_form(one.question) not in held]
    shares = {VALIDATION: validation} if given else {TEST: test_share, VALIDATION: validation}
    sides = split_rows(
        kept,
        key=lambda one: side_form(one.question),
        stratum=lambda _: None,
        shares=shares,
        seed=seed,
    )
    if given:
        sides[TEST] = tuple(given.conversations)
    if not sides[TRAIN]:
        raise DataError(
            f"nothing of `{path}` is left to train on: the test holds all of its questions",
            hint="give a test with other questions",
        )
    questions = len({side_form(one.question) for one in kept})
    check_sides(
        sides, shares, too_few=f"`{path}` holds too few different questions ({questions:,})"
    )
    files = [file, given] if given else [file]
    rejected = [one for each in files for one in each.rejected]
    facts: dict[str, Any] = {
        "shape": file.shape.name,
        "columns": list(file.shape.columns),
        "rows": {side: len(sides[side]) for side in SPLITS},
        "duplicates_dropped": duplicates,
        "leaks": len(rows) - len(kept),
        "turns": sum(one.role == ASSISTANT for each in kept for one in each.messages),
        "rejected": dict(Counter(one.reason for one in rejected)),
        "cases": cases_by_reason(rejected),
    }
    remarks = (remark for each in files for remark in each.remarks)
    return ConversationSet(
        splits=sides, facts=facts, remarks=(*filter(None, [said]), *remarks, *_told(facts))
    )


def read_all(
    path: Path,
    *,
    prompt: str | None = None,
    response: str | None = None,
    system: str | None = None,
) -> tuple[tuple[Conversation, ...], tuple[str, ...]]:
    """All conversations of a file, doubles too, and what is to be said of them."""
    file = _read(path, {"prompt": prompt, "response": response, "system": system})
    said = [*file.remarks]
    if file.rejected:
        said.append(f"rows left out: {cases(file.rejected)}")
    return tuple(file.conversations), tuple(said)


def _read(path: Path, templates: Mapping[str, str | None]) -> _File:
    table = read_table(path)
    shape = recognise(table, **templates)
    conversations: list[Conversation] = []
    rejected = list(table.rejected)
    flaws: Counter[str] = Counter()
    for where, values in table.records:
        found = shape.read(values)
        if found is None:
            continue
        for number, turns in enumerate(found):
            one = _conversation(where if len(found) == 1 else f"{where}#{number}", turns, flaws)
            if isinstance(one, Rejected):
                rejected.append(one)
            else:
                conversations.append(one)
        if not found:
            rejected.append(Rejected(where=where, reason="no conversation", detail=shape.name))
    if not conversations:
        raise DataError(
            f"no conversation can be made of `{path}`, read as {shape.told}: {cases(rejected)}",
            hint=TALK_HINT if shape.is_talk else COLUMNS_HINT,
        )
    return _File(shape, conversations, rejected, [*_remarks(table, shape), *_flaws(flaws)])


def _conversation(
    where: str, turns: Sequence[Turn], flaws: Counter[str]
) -> Conversation | Rejected:
    messages: list[Message] = []
    for turn in turns:
        if turn.problem:
            return Rejected(where=where, reason=turn.problem, detail=turn.content[:60])
        content, _ = mend(replace_surrogates(turn.content))
        if turn.role == SYSTEM and not content.strip():
            continue
        messages.append(Message(turn.role, content, turn.trained))
    talk = _without_end(_without_greeting(_by_turns(messages, flaws), flaws), flaws)
    problem = _problem(talk)
    if problem:
        return Rejected(where=where, reason=problem)
    flaws["answers of `weight` 0 read and not learnt"] += sum(not one.trained for one in talk)
    return Conversation(where, tuple(talk))


def _by_turns(messages: Sequence[Message], flaws: Counter[str]) -> Sequence[Message]:
    """The messages, those that one side sent in a row as one, as people write in a chat."""
    turns: list[Message] = []
    for one in messages:
        before = turns[-1] if turns else None
        if before is not None and _goes_on(before, one):
            turns[-1] = replace(before, content=f"{before.content}\n\n{one.content}")
        else:
            turns.append(one)
    flaws["messages joined to the one before, of the same side"] += len(messages) - len(turns)
    return turns


def _goes_on(before: Message, one: Message) -> bool:
    is_same = (before.role, before.trained) == (one.role, one.trained)
    is_said = bool(before.content.strip() and one.content.strip())
    return is_same and is_said and one.role in (USER, ASSISTANT)


def _without_greeting(messages: Sequence[Message], flaws: Counter[str]) -> Sequence[Message]:
    """The messages without what the assistant says first, which many templates refuse."""
    roles = [one.role for one in messages]
    start = 1 if roles[:1] == [SYSTEM] else 0
    asked = roles.index(USER) if USER in roles else start
    if asked == start or {*roles[start:asked]} != {ASSISTANT}:
        return messages
    flaws["greetings before the first question left out"] += 1
    return [*messages[:start], *messages[asked:]]


def _without_end(messages: Sequence[Message], flaws: Counter[str]) -> Sequence[Message]:
    """The messages up to the last answer that is to be learnt; nothing where there is none."""
    learnt = [place for place, one in enumerate(messages) if one.role == ASSISTANT and one.trained]
    end = learnt[-1] + 1 if learnt else 0
    if 0 < end < len(messages):
        flaws["ends of conversations without an answer to learn left out"] += 1
    return messages[:end]


def _problem(messages: Sequence[Message]) -> str:
    """Why these messages are no conversation, empty where they are one."""
    if not messages:
        return "no answer to learn"
    before = SYSTEM
    for place, one in enumerate(messages):
        if not one.content.strip():
            return EMPTY.get(one.role, "empty message")
        if one.role == SYSTEM and place == 0:
            continue
        if one.role not in FOLLOWERS[before]:
            return f"{one.role} after {before}" if place else f"begins with {one.role}"
        before = one.role
    return ""


def _without_duplicates(rows: Sequence[Conversation]) -> tuple[list[Conversation], int]:
    first: dict[tuple[Message, ...], Conversation] = {}
    for row in rows:
        first.setdefault(row.messages, row)
    return list(first.values()), len(rows) - len(first)


def _remarks(table: Table, shape: Shape) -> Iterator[str]:
    yield from (said for said in table.remarks if "nearly empty" not in said)
    yield f"read as {shape.told}"
    others = [name for name in table.names if name not in shape.columns]
    if others:
        yield f"columns left out: {', '.join(f'`{name}`' for name in others[:20])}"


def _flaws(flaws: Counter[str]) -> Iterator[str]:
    for flaw, times in (+flaws).items():
        yield f"{flaw}: {times:,}"


def _told(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["duplicates_dropped"]:
        yield f"duplicates dropped: {facts['duplicates_dropped']:,}"
    if facts["leaks"]:
        yield f"rows taken out of the training because the test holds them: {facts['leaks']:,}"
    for reason, times in facts["rejected"].items():
        yield f"rows left out, {reason}: {times:,} (the first: {facts['cases'][reason][0]})"
