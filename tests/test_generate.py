"""Where the prompts of `generate` come from."""

import io
from pathlib import Path
from typing import Any

import pytest

from llmctl.errors import ConfigError, DataError
from llmctl.stages.generate import Generate, run
from llmctl.workspace import Workspace


@pytest.fixture
def written(random_base: Any, tmp_path: Path) -> Any:
    """The prompts that a random model writes on from."""

    def call(**knobs: Any) -> list[str]:
        config = Generate(model=str(random_base("llama")), max_tokens=1, device="cpu", **knobs)
        told = run(config, Workspace(tmp_path))
        return [one["prompt"] for one in told["completions"]]

    return call


def test_what_is_piped_in_is_one_prompt(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.BytesIO("Once upon\na café \n".encode("latin-1"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(piped, encoding="utf-8"))

    assert written() == ["Once upon\na café "]
    assert written(prompts=("A lion",)) == ["A lion"]


def test_nothing_piped_in_is_no_prompt(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))

    with pytest.raises(ConfigError, match="there is no prompt"):
        written()


def test_a_file_of_prompts_has_one_a_line_in_any_encoding(written: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("Der Käfer\n\n  läuft über \n".encode("latin-1"))

    assert written(file=file) == ["Der Käfer", "  läuft über "]


def test_a_file_that_is_no_text_is_refused(written: Any, tmp_path: Path) -> None:
    file = tmp_path / "picture.txt"
    file.write_bytes(bytes(range(256)) * 4)

    with pytest.raises(DataError, match="cannot be read: binary"):
        written(file=file)
