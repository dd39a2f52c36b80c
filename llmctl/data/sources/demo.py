"""What every installation carries as documents: a small world in plain English, Python's prose.

The world is ours (`llmctl.data.sources.world`); the prose is that of `installed`. Nothing is
fetched and no package is imported.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.sources.installed import prose_parts, read_prose
from llmctl.data.sources.world.telling import SECTIONS, THEMES, measure, read_section, read_theme


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Collect the text that every installation carries: a small world and Python's own prose."""

    world_only: bool = knob(
        False, help="Collect the small world alone, without the prose of Python", panel="Input"
    )

    def default_name(self) -> str:
        """The corpus is called `demo`."""
        return "demo"

    def parts(self) -> Sequence[Part]:
        """The world by section and theme, then the prose by topics, shelves and packages."""
        world = [
            Part(label=f"world/{name}", bytes=measure(name), spec=("world", name))
            for name in (*SECTIONS, *THEMES)
        ]
        return world if self.world_only else [*world, *prose_parts()]

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The documents of one part; a source file that Python cannot parse is rejected."""
        room, name = part.spec
        return _read_world(name) if room == "world" else read_prose(room, name)


def _read_world(name: str) -> Iterator[Document]:
    for told in read_section(name) if name in SECTIONS else read_theme(name):
        yield Document(
            id=f"demo/world/{name}/{told.name}",
            text=told.text,
            source="demo",
            url=f"llmctl:world/{name}#{told.name}",
            licence="Apache-2.0",
            meta={"section": name},
        )
