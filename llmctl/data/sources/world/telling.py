"""The small world as documents: sections told by the grammar, and passages written by hand.

A section depends on its own files alone, so any process can read any of them in any order.
What `probes` holds out is said by none.
"""

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import NamedTuple

from llmctl.data.sources.world.grammar import Speaker, Telling, parse_telling
from llmctl.data.sources.world.probes import held_out_sentences
from llmctl.data.sources.world.tables import Row, load_table, world_text

SECTIONS = ("geography", "animals", "errands", "sums", "weather", "everyday", "people")
THEMES = ("stories", "letters", "dialogues", "descriptions", "lessons", "opinions", "notices")


class Told(NamedTuple):
    """One text of the world, under a name that is unique in its section."""

    name: str
    text: str


def load_telling(section: str) -> Telling:
    """How a section is told, with the wordings that all sections share."""
    common = parse_telling(world_text("tellings", "common")).wordings
    telling = parse_telling(world_text("tellings", section))
    return Telling(telling.bytes, telling.draws, {**common, **telling.wordings})


def measure(name: str) -> int:
    """About how many bytes a section or a theme is."""
    if name in THEMES:
        return len(world_text("passages", name).encode())
    return load_telling(name).bytes


def read_section(section: str) -> Iterator[Told]:
    """Documents of one section, all different, until its size is reached."""
    telling = load_telling(section)
    told: set[str] = set()
    size = 0
    while size < telling.bytes:
        number = len(told)
        tries = (_tell(telling, number, Random(f"{section}/{number}/{turn}")) for turn in count())
        text = next(each for each in tries if each not in told and not gives_away(each))
        told.add(text)
        size += len(text)
        yield Told(f"{number:05}", text)


def read_theme(theme: str) -> Iterator[Told]:
    """The passages of one theme: a title after `# `, then paragraphs."""
    for passage in world_text("passages", theme).removeprefix("# ").split("\n# "):
        title, _, text = passage.partition("\n")
        yield Told(title.strip().lower().replace(" ", "-"), text.strip())


def gives_away(text: str) -> bool:
    """Whether a text says what is held out."""
    spoken = " ".join(text.casefold().split())
    return any(sentence in spoken for sentence in held_out_sentences())


def _tell(telling: Telling, number: int, random: Random) -> str:
    rows = [_draw(table, size, number, random) for table, size in telling.draws.items()]
    return Speaker(telling.wordings, rows, random).tell("document")


def _draw(table: str, size: int, number: int, random: Random) -> list[Row]:
    """Different rows, the first of them by turns, so that no fact is forgotten.

    What stands at the head of a table comes several times a turn: people talk of lions more
    than of snails.
    """
    rows = load_table(table)
    deck = [row for share in (1, 4, 16, 32, 48) for row in rows[: len(rows) // share]]
    turn, place = divmod(number, len(deck))
    first = Random(f"{table}/{turn}").sample(deck, len(deck))[place]
    return [first, *random.sample([row for row in rows if row is not first], size - 1)]
