from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from llmctl import toml
from llmctl.config import from_dict
from llmctl.data.labeled.classes import read_classes
from llmctl.data.labeled.conversations import read_conversations
from llmctl.registry import load
from llmctl.stages import COMMANDS

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir())
ADDRESSES = {name: row[0] for panel in COMMANDS.values() for name, row in panel.items()}
READERS: dict[str, Any] = {
    "finetune classify": read_classes,
    "finetune instruct": read_conversations,
}


def commands(table: Mapping[str, Any], words: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The commands that a TOML speaks to, and what it says to each."""
    for word, part in table.items():
        name = f"{words} {word}".strip()
        if name in ADDRESSES:
            yield name, part
        else:
            assert isinstance(part, dict), f"`{name}` is no command"
            yield from commands(part, name)


def configs(example: Path) -> dict[str, Any]:
    path = example / f"{example.name}.toml"
    return {
        name: from_dict(load(ADDRESSES[name]), said, where=str(path))
        for name, said in commands(toml.load(path))
    }


def tuned() -> list[Any]:
    return [
        pytest.param(command, config, id=example.name)
        for example in EXAMPLES
        for command, config in configs(example).items()
        if command in READERS
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_says_what_it_shows_and_how_to_run_it(example: Path) -> None:
    readme = (example / "README.md").read_text(encoding="utf-8")
    index = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")

    for command in configs(example):
        assert f"llmctl {command} --config examples/{example.name}/{example.name}.toml" in readme
    assert "\n## Measured\n" in readme
    assert f"[{example.name}]({example.name}/README.md)" in index


@pytest.mark.parametrize(("command", "config"), tuned())
def test_its_data_is_read_whole_and_no_text_is_on_two_sides(
    command: str, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)

    facts = READERS[command](config.file, test=config.test).facts

    assert facts["rejected"] == {}
    assert (facts["duplicates_dropped"], facts["leaks"]) == (0, 0)
    assert min(facts["rows"].values()) >= 10
    assert not facts.get("conflicts")
