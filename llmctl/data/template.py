"""Conversations -> the ids that a model reads: one way for training, chat, evaluation and serving.

The template is the Jinja text that Hugging Face tokenizers carry. It comes with a model from
anywhere, so that it runs in a sandbox.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from llmctl.data.labeled.conversations import ASSISTANT, SYSTEM, USER, Conversation, Message
from llmctl.data.template_jinja import compile_template
from llmctl.data.tokenizer import IM_END, IM_START, Tokenizer
from llmctl.errors import ConfigError, DataError

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# For a vocabulary without the marks of ChatML: words, and the token that ends every text.
PLAIN = (
    "{{ bos_token if bos_token and bos_token != eos_token else '' }}"
    "{% for message in messages %}"
    "{{ '### ' + message['role'] + ':\\n' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\\n\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\\n' }}{% endif %}"
)
# Characters for private use: no template trims them or splits at them.
MARKS = [chr(number) for number in range(0xE000, 0xF8FF)]
MOST_CASES = 5
QUESTION = Message(USER, "zqquestion")
ANSWER = Message(ASSISTANT, "zqanswer")
INSTRUCTION = Message(SYSTEM, "zqinstruction")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as ids; `trained` marks, id by id, what the assistant is to learn to say.

    `end_ids` are the ids that end its turn: where writing stops.
    """

    ids: list[int]
    trained: list[bool]
    end_ids: tuple[int, ...]


class ChatTemplate:
    """How the model of a tokenizer wants its conversations written.

    What holds for every template that `check_rendering` lets through:

    - The ids of a conversation begin with the `prompt_ids` of its beginning, so that a model is
      trained on exactly what it will be asked with. They are those of transformers'
      `apply_chat_template`, but where a token would reach over the beginning of an answer.
    - A special token in anybody's words, such as `<|im_end|>`, is encoded as ordinary text: who
      writes to the model can neither end a turn nor speak as the system. Marks of a template that
      are no special tokens, such as the `[INST]` of Llama 2, are text wherever they stand, and
      cannot be told from a user's.
    - Where a template refuses or leaves out the system prompt, it stands in front of the first
      question instead, in training as in use.

    `tokenizer` carries the template; saved, it is what `AutoTokenizer` renders with. Raises
    ConfigError for a template that is no Jinja, leaves out the answers or begins a text twice.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.source = _source(tokenizer)
        self.tokenizer = tokenizer.with_chat_template(self.source)
        self._render = compile_template(self.source, tokenizer.config)
        special = sorted(tokenizer.special_tokens, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")
        self._tail, self._end = self._find_end()
        if _begins_twice(self.prompt_ids([QUESTION]), tokenizer):
            raise ConfigError(
                "the chat template begins every text with two tokens that begin a text",
                hint="take one `bos_token` out of the chat template",
            )

    @cached_property
    def takes_system(self) -> bool:
        """Does the template write a system prompt, rather than refuse it or leave it out?"""
        try:
            return INSTRUCTION.content in self._render([INSTRUCTION, QUESTION], False)
        except DataError:
            return False

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids at which writing stops: the end of the assistant's turn, and of all text."""
        eos = self.tokenizer.eos_id
        turn = self.tokenizer.special_tokens.get(self._end, eos)
        return (turn,) if turn == eos else (turn, eos)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The text of a conversation; with `add_generation_prompt` up to where an answer begins.

        Raises DataError where the template refuses the messages.
        """
        return self._render(self._folded(messages), add_generation_prompt)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The ids that an answer to these messages goes on from, as chat and serving need them."""
        return self._encoded(messages, add_generation_prompt=True).ids

    def encode(self, messages: Sequence[Message]) -> Rendered:
        """The ids of a whole conversation, its answers to learn and the ends of their turns marked.

        Raises DataError where the template refuses the messages, or writes the beginning of a
        conversation otherwise once it goes on: what was trained would never be asked.
        """
        return self._encoded(messages, add_generation_prompt=False)

    def _encoded(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> Rendered:
        folded, written = self._protected(self._folded(messages))
        text = self._render(folded, add_generation_prompt)
        ids: list[int] = []
        trained: list[bool] = []
        before = 0
        for cut, is_answer in self._cuts(folded, text):
            whole = self._ids(text[:cut], written)
            # Encoded with what stands before it, as in transformers; on its own where that would
            # change the ids of what stands before, which an answer goes on from.
            fits = whole[: len(ids)] == ids
            ids += whole[len(ids) :] if fits else self._ids(text[before:cut], written)
            trained += [is_answer] * (len(ids) - len(trained))
            before = cut
        return Rendered(ids, trained, self.end_ids)

    def _cuts(self, messages: Sequence[Message], text: str) -> Iterator[tuple[int, bool]]:
        """Where the text changes sides, and whether what ends there is an answer to learn."""
        for place, message in enumerate(messages):
            if message.role != ASSISTANT:
                continue
            prompt = self._render(messages[:place], True)
            turn = self._end_of_turn(self._render(messages[: place + 1], False))
            if not (turn.startswith(prompt) and text.startswith(turn)):
                raise DataError(
                    "the chat template writes the beginning of a conversation otherwise once it "
                    f"goes on: after {_shared(text, turn, prompt)!r}",
                    hint="use a template that only appends, or conversations with one answer each",
                )
            yield len(prompt), False
            yield len(turn), message.trained
        yield len(text), False

    def _end_of_turn(self, text: str) -> str:
        """A conversation up to the token that ends its last answer, that included."""
        behind = self._tail.partition(self._end)[2] if self._end else self._tail
        return text.removesuffix(behind)

    def _find_end(self) -> tuple[str, str]:
        """What follows an answer, and the first special token in it, empty where there is none."""
        before, found, tail = self._render([QUESTION, ANSWER], False).partition(ANSWER.content)
        if not (before and found):
            raise ConfigError(
                "the chat template leaves out what the assistant says",
                hint="mend the chat template, or remove it to go with ChatML",
            )
        end = self._special.search(tail)
        return tail, end[0] if end else ""

    def _folded(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages as the template takes them: the system prompt before the first question."""
        if len(messages) < 2 or messages[0].role != SYSTEM or self.takes_system:
            return messages
        system, first, *others = messages
        return [Message(first.role, f"{system.content}\n\n{first.content}"), *others]

    def _protected(self, messages: Sequence[Message]) -> tuple[Sequence[Message], dict[str, str]]:
        """The messages with a private character for each special token that they spell out.

        Beside them, what each character stands for.
        """
        spelt = {token for one in messages for token in self._special.findall(one.content)}
        if not spelt:
            return messages, {}
        used = {letter for one in messages for letter in one.content}
        free = (mark for mark in MARKS if mark not in used)
        marks = dict(zip(sorted(spelt), free, strict=False))
        return (
            [
                replace(one, content=self._special.sub(lambda found: marks[found[0]], one.content))
                for one in messages
            ],
            {mark: token for token, mark in marks.items()},
        )

    def _ids(self, text: str, written: dict[str, str]) -> list[int]:
        if not written:
            return self.tokenizer.encode_rendered(text)
        ids: list[int] = []
        start = 0
        restored = str.maketrans(written)
        for found in (*self._special.finditer(text), None):
            stop = found.start() if found else len(text)
            ids += self.tokenizer.encode(text[start:stop].translate(restored)).tolist()
            if found:
                ids.append(self.tokenizer.special_tokens[found[0]])
                start = found.end()
        return ids


def check_rendering(
    template: ChatTemplate, conversations: Iterable[Conversation]
) -> list[Rendered]:
    """The ids of a whole set, each checked; raises DataError that names the rows at fault.

    Refused are rows that the template refuses or does not merely continue, that begin twice or
    that would train no word of an answer; raises ConfigError where no turn's end is trained.
    """
    found: list[Rendered] = []
    faults: dict[str, list[str]] = defaultdict(list)
    hints: dict[str, str | None] = {}
    for one in conversations:
        try:
            rendered = template.encode(one.messages)
        except DataError as error:
            faults[error.message].append(one.id)
            hints[error.message] = error.hint
            continue
        fault = _fault(rendered, template.tokenizer)
        if fault:
            faults[fault].append(one.id)
        found.append(rendered)
    if faults:
        fault, rows = max(faults.items(), key=lambda pair: len(pair[1]))
        raise DataError(f"{_named(rows)}: {fault}", hint=hints.get(fault))
    if found and not _trains_an_end(found):
        raise ConfigError(
            "no token that ends a turn is ever trained: the model would not learn to stop",
            hint="write `{{ eos_token }}` or an end mark behind each answer in the chat template",
        )
    return found


def _fault(rendered: Rendered, tokenizer: Tokenizer) -> str:
    if _begins_twice(rendered.ids, tokenizer):
        return "begins with two tokens that begin a text"
    pairs = zip(rendered.ids, rendered.trained, strict=True)
    if not any(trained and number not in rendered.end_ids for number, trained in pairs):
        return "no word of an answer would be trained"
    return ""


def _trains_an_end(found: Sequence[Rendered]) -> bool:
    trained: Counter[int] = Counter()
    for one in found:
        trained.update(n for n, is_trained in zip(one.ids, one.trained, strict=True) if is_trained)
    return trained[found[0].end_ids[0]] > 0


def _begins_twice(ids: Sequence[int], tokenizer: Tokenizer) -> bool:
    return tokenizer.bos_id is not None and ids[:2] == [tokenizer.bos_id] * 2


def _named(rows: Sequence[str]) -> str:
    shown = ", ".join(rows[:MOST_CASES])
    return f"{shown} and {len(rows) - MOST_CASES:,} more" if len(rows) > MOST_CASES else shown


def _shared(text: str, *others: str) -> str:
    """The last of what the texts have in common, to show where they part."""
    texts = (text, *others)
    at = next(
        (at for at, letters in enumerate(zip(*texts, strict=False)) if len({*letters}) > 1),
        min(map(len, texts)),
    )
    return text[max(0, at - 30) : at]


def _source(tokenizer: Tokenizer) -> str:
    """The template of a tokenizer, the default one of several, ours where it has none."""
    held = tokenizer.config.get("chat_template")
    if isinstance(held, list):
        named = {one["name"]: one["template"] for one in held}
        held = named.get("default") or next(iter(named.values()), None)
    if held:
        return held
    return CHATML if {IM_START, IM_END} <= tokenizer.special_tokens.keys() else PLAIN
