"""Models and unseen questions -> their answers side by side, scored; pictures, figures, a page.

The first model is the one that is judged; what it gains over each other is said beside it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from llmctl.data.labeled.conversations import ASSISTANT, Conversation, Message
from llmctl.errors import DataError
from llmctl.evals.answers import Likeness, compare_answers, gains
from llmctl.evals.bootstrap import Difference, are_few, gain_facts
from llmctl.evals.pictures import losses, score_bars
from llmctl.infer.engine import Engine
from llmctl.infer.sampling import Sampling
from llmctl.plots import DARK, LIGHT
from llmctl.report import Picture, Section, Table, Text, Tree, facts_table, write_report

# Room for an answer beyond the longest that is expected, in characters a token and tokens.
CHARACTERS_A_TOKEN, SPARE_TOKENS = 2, 32
MOST_SHOWN = 8
# What people call the scores.
NAMES = {"exact_match": "exact match", "token_f1": "token F1", "chrf": "chrF", "rouge_l": "ROUGE-L"}


class Question(NamedTuple):
    """What was said before the last answer, and that answer."""

    messages: tuple[Message, ...]
    reference: str


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Questions, and what each model answered, the judged one first."""

    questions: tuple[Question, ...]
    answers: Mapping[str, tuple[str, ...]]

    @cached_property
    def scores(self) -> dict[str, dict[str, Likeness]]:
        """For each model every score of its answers."""
        references = [one.reference for one in self.questions]
        return {name: compare_answers(said, references) for name, said in self.answers.items()}

    @property
    def judged(self) -> str:
        """The model that is judged."""
        return next(iter(self.answers))

    @property
    def others(self) -> list[str]:
        """The models beside it."""
        return [*self.answers][1:]

    def gains_over(self, other: str) -> dict[str, Difference]:
        """What the judged model's answers have over those of another."""
        return gains(self.scores[other], self.scores[self.judged])

    def rows(self) -> Iterator[dict[str, str]]:
        """Everything that was said, as data."""
        for place, question in enumerate(self.questions):
            said = {name: answers[place] for name, answers in self.answers.items()}
            asked = question.messages[-1].content
            yield {"question": asked, "reference": question.reference} | said

    def facts(self, *, beside: str) -> dict[str, Any]:
        """The means as a manifest holds them; those of another model with `beside` before them."""
        found: dict[str, Any] = {"questions": len(self.questions)}
        for name, scores in self.scores.items():
            prefix = "" if name == self.judged else f"{beside}_"
            found |= {f"{prefix}{score}": one.mean for score, one in scores.items()}
        for other in self.others:
            found |= gain_facts(self.gains_over(other))
        return found

    def figures(self) -> dict[str, Any]:
        """Every score of every model with its interval, and what the judged one has over others."""
        return {
            "questions": len(self.questions),
            "scores": {
                name: {score: asdict(one) for score, one in scores.items()}
                for name, scores in self.scores.items()
            },
            "gains": {
                other: {score: asdict(one) for score, one in self.gains_over(other).items()}
                for other in self.others
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPortrait:
    """All that the page tells of a model that answers."""

    title: str
    summary: str
    answered: Answered
    facts: Mapping[str, Any]
    config: Mapping[str, Any]
    lineage: Tree
    metrics: Sequence[Mapping[str, Any]] = ()


def answer(
    models: Mapping[str, Path], conversations: Sequence[Conversation], *, device: str
) -> Answered:
    """Let models, by name, answer the last question of each conversation.

    Raises DataError where there is none.
    """
    if not conversations:
        raise DataError("there are no questions to answer", hint="give labelled data that has some")
    questions = tuple(question_of(one) for one in conversations)
    return Answered(
        questions=questions,
        answers={
            name: tuple(_answers(Engine.open(path, device=device), questions))
            for name, path in models.items()
        },
    )


def question_of(conversation: Conversation) -> Question:
    """A conversation up to its last answer, and that answer."""
    messages = conversation.messages
    last = max(place for place, one in enumerate(messages) if one.role == ASSISTANT)
    return Question(messages[:last], messages[last].content)


def told_scores(answered: Answered) -> Table:
    """A line a score: of the judged model, of the others, and the gain over each."""
    columns = ["score", answered.judged, "95 % interval"]
    for other in answered.others:
        columns += [other, "gain"]
    rows: list[list[str]] = []
    for score, one in answered.scores[answered.judged].items():
        row = [NAMES[score], f"{one.mean:.3f}", _told_interval(one)]
        for other in answered.others:
            gain = answered.gains_over(other)[score]
            row += [f"{answered.scores[other][score].mean:.3f}", gain.told(3)]
        rows.append(row)
    return Table(columns=columns, rows=rows)


def write_chat_report(directory: Path, portrait: ChatPortrait) -> None:
    """Write the pictures, the figures and the page into a folder."""
    answered = portrait.answered
    picture, dark = (
        score_bars(answered.scores, names=NAMES, palette=palette) for palette in (LIGHT, DARK)
    )
    (directory / "scores.png").write_bytes(picture)
    text = json.dumps(answered.figures(), indent=1, ensure_ascii=False)
    (directory / "report.json").write_text(text, encoding="utf-8")
    bars = Picture(png=picture, dark=dark, caption="means, with their 95 % intervals")
    sections = [
        Section("How good the answers are", [told_scores(answered), bars]),
        Section("What was answered", _samples(answered)),
    ]
    if portrait.metrics:
        curve = losses(directory, portrait.metrics, caption="loss over the steps")
        sections.append(Section("How it learnt", [curve]))
    sections += [
        Section("Facts", [facts_table(portrait.facts)]),
        Section("Settings", [facts_table(portrait.config)]),
        Section("What it was made from", [portrait.lineage]),
    ]
    write_report(directory / "report.html", portrait.title, sections, summary=portrait.summary)


def _answers(engine: Engine, questions: Sequence[Question]) -> list[str]:
    """What a model says, taking the likeliest token each time."""
    longest = max(len(one.reference) for one in questions)
    room = longest // CHARACTERS_A_TOKEN + SPARE_TOKENS
    sampling = Sampling(max_tokens=min(room, engine.context // 2), temperature=0.0)
    found = engine.answer([one.messages for one in questions], sampling)
    return [one.text.strip() for one in found]


def _told_interval(one: Likeness) -> str:
    if are_few(len(one.values)):
        return "too few questions"
    return f"{one.interval.low:.3f} to {one.interval.high:.3f}"


def _samples(answered: Answered) -> list[Text]:
    shown: list[Text] = []
    for row in list(answered.rows())[:MOST_SHOWN]:
        said = [f"{name}: {row[name] or '(nothing)'}" for name in answered.answers]
        text = "\n\n".join([*said, f"reference: {row['reference']}"])
        shown.append(Text(text=text, caption=row["question"]))
    return shown
