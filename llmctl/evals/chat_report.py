"""Models and unseen questions -> their answers side by side, scored, and a page.

The first model is the one that is judged; what it gains over each other is said beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from llmctl.data.labeled.conversations import ASSISTANT, Conversation, Message
from llmctl.errors import DataError
from llmctl.evals.answers import Likeness, compare_answers, gains
from llmctl.evals.bootstrap import Difference
from llmctl.infer.engine import Engine
from llmctl.infer.sampling import Sampling
from llmctl.plots import DARK, loss_curve
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

    def facts(self) -> dict[str, Any]:
        """The means as a manifest holds them; those of others with their names behind."""
        found: dict[str, Any] = {"questions": len(self.questions)}
        for name, scores in self.scores.items():
            ending = "" if name == self.judged else f" ({name})"
            found |= {f"{score}{ending}": one.mean for score, one in scores.items()}
        for other in self.others:
            gained = self.gains_over(other).items()
            found |= {f"{score} p ({other})": one.p_value for score, one in gained}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPortrait:
    """All that the page tells of an instruction-tuned model."""

    title: str
    answered: Answered
    facts: Mapping[str, Any]
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    lineage: Tree


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
        row = [NAMES[score], f"{one.mean:.3f}"]
        row.append(f"{one.interval.low:.3f} to {one.interval.high:.3f}")
        for other in answered.others:
            gain = answered.gains_over(other)[score]
            row += [f"{answered.scores[other][score].mean:.3f}", _told_gain(gain)]
        rows.append(row)
    return Table(columns=columns, rows=rows)


def write_chat_report(directory: Path, portrait: ChatPortrait) -> None:
    """Write the picture and the page of an instruction-tuned model into its folder."""
    picture = loss_curve(portrait.metrics)
    (directory / "loss.png").write_bytes(picture)
    dark = loss_curve(portrait.metrics, palette=DARK)
    before, after = portrait.facts["test_loss_before"], portrait.facts["test_loss"]
    write_report(
        directory / "report.html",
        portrait.title,
        [
            Section("What tuning brought", [told_scores(portrait.answered)]),
            Section("What it answers", _samples(portrait.answered)),
            Section(
                "How it learnt", [Picture(png=picture, dark=dark, caption="loss over the steps")]
            ),
            Section("Facts", [facts_table(portrait.facts)]),
            Section("Settings", [facts_table(portrait.config)]),
            Section("What it was made from", [portrait.lineage]),
        ],
        summary=f"loss on unseen answers {before:.3f} before, {after:.3f} after",
    )


def write_answers_report(
    directory: Path, title: str, answered: Answered, config: Mapping[str, Any], lineage: Tree
) -> None:
    """Write the page of an evaluation by answers."""
    write_report(
        directory / "report.html",
        title,
        [
            Section("How good the answers are", [told_scores(answered)]),
            Section("What was answered", _samples(answered)),
            Section("Facts", [facts_table(answered.facts())]),
            Section("Settings", [facts_table(config)]),
            Section("What it was made from", [lineage]),
        ],
        summary=f"{len(answered.questions):,} questions",
    )


def _answers(engine: Engine, questions: Sequence[Question]) -> list[str]:
    """What a model says, taking the likeliest token each time."""
    longest = max(len(one.reference) for one in questions)
    room = longest // CHARACTERS_A_TOKEN + SPARE_TOKENS
    sampling = Sampling(max_tokens=min(room, engine.context // 2), temperature=0.0)
    found = engine.answer([one.messages for one in questions], sampling)
    return [one.text.strip() for one in found]


def _told_gain(gain: Difference) -> str:
    low, high = gain.interval.low, gain.interval.high
    return f"{gain.gain:+.3f} [{low:+.3f}, {high:+.3f}] p = {gain.p_value:.3f}"


def _samples(answered: Answered) -> list[Text]:
    shown: list[Text] = []
    for row in list(answered.rows())[:MOST_SHOWN]:
        said = [f"{name}: {row[name] or '(nothing)'}" for name in answered.answers]
        text = "\n\n".join([*said, f"reference: {row['reference']}"])
        shown.append(Text(text=text, caption=row["question"]))
    return shown
