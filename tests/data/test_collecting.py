"""Collecting: everything is counted, and nobody sees in the corpus how it was made."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl.data import collecting
from llmctl.data.collecting import bundles, collect_bundle
from llmctl.data.formats.opening import contained
from llmctl.data.sources.files import Files
from llmctl.errors import DataError
from llmctl.shards import ShardReader
from llmctl.stages.collect import Collect, run
from llmctl.workspace import Artifact, Workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Good files, an empty one, a binary one and a truncated archive."""
    place = tmp_path / "odd"
    place.mkdir()
    for number in range(12):
        (place / f"good-{number:02d}.txt").write_text(f"Text number {number}. " * 40)
    (place / "empty.txt").write_bytes(b"")
    (place / "picture.txt").write_bytes(bytes(range(256)) * 20)
    (place / "cut.txt.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc")
    (place / "mojibake.txt").write_text("a cafÃ© in GenÃ¨ve, naturally")
    return place


def collect(folder: Path, workspace: Path, **knobs: int) -> Artifact:
    made = run(Collect(source=Files(paths=(str(folder),)), **knobs), Workspace(workspace))
    assert isinstance(made, Artifact)
    return made


def files(artifact: Artifact) -> dict[str, str]:
    return {name: str(known["sha256"]) for name, known in artifact.manifest.files.items()}


def test_every_file_is_kept_or_dropped_with_a_reason(folder: Path, tmp_path: Path) -> None:
    made = collect(folder, tmp_path / "workspace")

    reader = ShardReader(made.path)
    assert made.facts["documents"] == reader.rows == 13
    assert made.facts["documents"] + sum(made.facts["dropped"].values()) == 16
    assert any("empty.txt" in case for cases in made.facts["cases"].values() for case in cases)
    assert sum(made.facts["remarks"].values()) >= 1


def test_a_collection_that_found_nothing_is_not_in_the_way_of_the_next(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("said,by\nA first line of text,me\nA second one of them,you\n")
    place = Workspace(tmp_path / "workspace")

    def collected(column: str) -> Artifact:
        source = Files(paths=(str(table),), text_column=column)
        made = run(Collect(source=source), place)
        assert isinstance(made, Artifact)
        return made

    with pytest.raises(DataError, match="nothing was collected"):
        collected("sayed")

    assert not place.drafts()
    assert collected("said").facts["documents"] == 2


def test_the_corpus_does_not_depend_on_the_number_of_processes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "LEAST_BYTES", 2000)
    monkeypatch.setattr("llmctl.stages.collect.ALONE_BYTES", 0)

    alone = collect(folder, tmp_path / "one", workers=1)
    together = collect(folder, tmp_path / "two", workers=2)

    assert len([name for name in files(alone) if name.endswith(".arrow")]) > 3
    assert files(alone) == files(together)


def test_an_interrupted_collection_goes_on_to_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "LEAST_BYTES", 2000)
    whole = collect(folder, tmp_path / "whole")
    done: list[int] = []

    def failing(source: Files, bundle: collecting.Bundle, *rest: object) -> collecting.Tally:
        if len(done) == 3:
            raise MemoryError
        done.append(bundle.number)
        return collect_bundle(source, bundle, *rest)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(collecting, "collect_bundle", failing)
        with pytest.raises(MemoryError):
            collect(folder, tmp_path / "cut")

    assert files(collect(folder, tmp_path / "cut")) == files(whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte, where whoever runs the tests may have one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def numbered(folder: Path) -> Path:
    folder.mkdir()
    for number in range(6):
        text = "\n".join(f"Line {line} of text {number}." for line in range(9000))
        (folder / f"{number}.txt").write_text(text)
    return folder


LIMITED = """
import resource, signal, sys
from llmctl.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.exit(main())
"""


def command(*words: str, most: int = 2**30) -> subprocess.CompletedProcess[str]:
    """The command in a process whose files may grow to so many bytes."""
    given = [sys.executable, "-c", LIMITED, str(most), *words, "--json"]
    return subprocess.run(given, capture_output=True, text=True, timeout=120, check=False)


def test_a_full_disk_leaves_a_draft_that_goes_on_to_the_same_bytes(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "LEAST_BYTES", 2000)
    folder = numbered(tmp_path / "texts")
    whole = collect(folder, tmp_path / "whole")
    with pytest.raises(OSError, match="No space left"):
        collect(folder, small_disk / "workspace")

    (draft,) = Workspace(small_disk / "workspace").drafts()
    first = draft[2] / "00000-00000.arrow"
    before = first.stat().st_mtime_ns
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    made = collect(folder, small_disk / "workspace")

    assert files(made) == files(whole)
    assert (made.path / first.name).stat().st_mtime_ns == before


def test_a_file_that_may_not_grow_is_told_and_goes_on_once_it_may(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "texts")
    words = ["collect", "files", str(folder), "--workspace", str(tmp_path / "workspace")]

    told = command(*words, most=400_000)
    done = command(*words)

    assert told.returncode == 6
    assert "disk is full" in json.loads(told.stdout)["error"]["message"]
    assert "the same command" in json.loads(told.stdout)["error"]["hint"]
    assert done.returncode == 0
    made = Workspace(tmp_path / "workspace").find("corpus", "texts")
    assert files(made) == files(collect(folder, tmp_path / "whole"))


def test_a_disk_that_fills_while_a_file_is_read_loses_no_document_in_silence() -> None:
    def read() -> Iterator[str]:
        yield "first"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        list(contained(read(), "a.docx", 10))


def test_nothing_left_is_an_error_that_names_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")

    with pytest.raises(DataError, match="empty"):
        collect(tmp_path / "empty.txt", tmp_path / "workspace")


def test_bundles_keep_the_order_of_the_parts(folder: Path) -> None:
    parts = Files(paths=(str(folder),)).parts()

    together = [part for bundle in bundles(parts) for part in bundle.parts]

    assert together == list(parts)
