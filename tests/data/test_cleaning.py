"""Cleaning: every document is accounted for, and nobody sees in the corpus how it was made."""

import contextlib
import errno
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmctl.data import cleaning, screening
from llmctl.data.dedup import bands
from llmctl.data.sources.files import Files
from llmctl.errors import ConfigError, DataError, WorkspaceError
from llmctl.shards import ShardReader
from llmctl.stages.clean import Clean, run
from llmctl.stages.collect import Collect
from llmctl.stages.collect import run as run_collect
from llmctl.workspace import Artifact, Workspace

WORDS = (
    "the of and to have that be with a in is it for on as was at by from or this but not are "
    "river stone house window morning teacher garden letter bread winter market story machine "
    "people water light music paper school answer question village mountain number picture "
    "remember carry build follow open write begin travel listen gather believe measure return"
).split()


def prose(seed: int, sentences: int = 12) -> str:
    """Sentences that every rule lets through, other ones for each seed."""
    chance = random.Random(seed)
    told = (" ".join(chance.choices(WORDS, k=chance.randint(8, 14))) for _ in range(sentences))
    return " ".join(f"{one.capitalize()}." for one in told)


def nearly(text: str) -> str:
    """The same text with one word changed."""
    words = text.split()
    words[len(words) // 2] = "elsewhere"
    return " ".join(words)


@pytest.fixture
def rows() -> list[str]:
    """Good texts, and of each sort of bad ones a few."""
    good = [prose(seed) for seed in range(60)]
    copies = [f"  {good[3]}\n", good[3], good[9]]
    near = [nearly(good[5]), nearly(good[20])]
    bad = [
        "This text is too short to be of any use.",
        f"{prose(70)} {{ braces }}",
        "the same words and the same again. " * 60,
    ]
    personal = [f"{prose(71)} Write to jane.doe@example.org or call +49 30 1234 5678."]
    return [*good, *copies, *near, *bad, *personal]


@pytest.fixture
def workspace(tmp_path: Path, rows: list[str]) -> Workspace:
    place = Workspace(tmp_path / "workspace")
    collected(place, tmp_path / "web.jsonl", rows)
    return place


def collected(workspace: Workspace, path: Path, rows: list[str]) -> Artifact:
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    made = run_collect(Collect(source=Files(paths=(str(path),))), workspace)
    assert isinstance(made, Artifact)
    return made


def cleaned(workspace: Workspace, **knobs: Any) -> Artifact:
    made = run(Clean(**knobs), workspace)
    assert isinstance(made, Artifact)
    return made


def table(folder: Path) -> list[dict[str, Any]]:
    return [row for batch in ShardReader(folder) for row in batch.to_pylist()]


def files(artifact: Artifact) -> dict[str, str]:
    return {name: str(known["sha256"]) for name, known in artifact.manifest.files.items()}


def test_what_goes_in_is_what_comes_out_and_what_each_rule_took(
    workspace: Workspace, rows: list[str]
) -> None:
    facts = cleaned(workspace).facts

    steps = facts["funnel"]
    dropped = sum(step["documents"] for step in steps)
    gone = sum(step["bytes"] + step["trimmed_bytes"] for step in steps)
    assert facts["documents_in"] == len(rows) == facts["documents"] + dropped
    assert facts["bytes_in"] == facts["bytes"] + gone
    assert facts["dropped"] == {
        "gopher": 1,
        "repetition": 1,
        "c4": 1,
        "exact copies": 3,
        "near copies": 2,
    }


def test_the_funnel_says_what_is_on_disk(workspace: Workspace) -> None:
    made = cleaned(workspace, keep_dropped=True)

    kept, gone = table(made.path), table(made.path / "dropped")
    reasons = Counter(json.loads(row["meta"])["dropped_by"] for row in gone)
    assert made.facts["documents"] == len(kept)
    assert made.facts["bytes"] == sum(len(row["text"].encode()) for row in kept)
    assert made.facts["dropped"] == reasons


def test_every_document_has_a_history(workspace: Workspace, rows: list[str]) -> None:
    made = cleaned(workspace)

    history = table(made.path / "history")
    by_id = {row["id"]: row for row in history}
    kept = {row["id"] for row in table(made.path)}
    assert len(history) == len(by_id) == len(rows)
    assert {name for name, row in by_id.items() if row["verdict"] == "kept"} == kept
    copy = next(row for row in history if row["verdict"] == "near copies")
    assert copy["twin"] in kept
    assert 0.8 <= copy["similarity"] < 1


def test_the_first_of_several_copies_stays(workspace: Workspace) -> None:
    made = cleaned(workspace)

    numbers = [int(row["id"].rpartition(":")[2]) for row in table(made.path)]
    assert numbers[:60] == list(range(1, 61))


@pytest.fixture
def many(tmp_path: Path, rows: list[str], monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The same texts as several corpora in many bundles."""
    monkeypatch.setattr("llmctl.data.collecting.BATCH_BYTES", 6000)
    monkeypatch.setattr(screening, "LEAST_BYTES", 2000)
    monkeypatch.setattr("llmctl.stages.clean.ALONE_BYTES", 0)
    place = Workspace(tmp_path / "many")
    collected(place, tmp_path / "first.jsonl", rows[:40])
    collected(place, tmp_path / "second.jsonl", rows[40:])
    return place


def test_the_corpus_does_not_depend_on_the_number_of_processes(many: Workspace) -> None:
    both = ("first", "second")

    alone = cleaned(many, from_=both, name="alone", workers=1)
    together = cleaned(many, from_=both, name="together", workers=2)

    assert len([name for name in files(alone) if name.endswith(".arrow")]) > 8
    assert files(alone) == files(together)
    assert alone.facts["dropped"]["exact copies"] == 3


@pytest.mark.parametrize("step", ["screen", "find_same", "find_candidates", "confirm", "winnow"])
def test_a_run_that_broke_off_goes_on_to_the_same_bytes(
    many: Workspace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    knobs: dict[str, Any] = {"from_": ("first", "second"), "workers": 1}
    whole = cleaned(many, name="whole", **knobs)
    real, calls = getattr(cleaning, step), []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2 or step in ("confirm", "find_same"):
            raise MemoryError
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(cleaning, step, failing)
        with pytest.raises(MemoryError):
            cleaned(many, name="cut", **knobs)

    assert files(cleaned(many, name="cut", **knobs)) == files(whole)


def test_what_another_corpus_holds_is_dropped_and_that_corpus_is_not_touched(
    workspace: Workspace, rows: list[str], tmp_path: Path
) -> None:
    collected(workspace, tmp_path / "held.jsonl", [rows[0], nearly(rows[1]), prose(99)])

    facts = cleaned(workspace, from_=("web",), against=("held",)).facts

    assert facts["documents_in"] == len(rows)
    assert facts["dropped"]["exact copies"] == 3 + 1
    assert facts["dropped"]["near copies"] == 2 + 1


def test_a_threshold_can_be_set_and_makes_another_corpus(workspace: Workspace) -> None:
    settings = ("gopher.fewest_words=1", "gopher.fewest_stop_words=0")

    lenient = cleaned(workspace, name="lenient", set_=settings)

    assert "gopher" not in lenient.facts["dropped"]
    assert lenient.manifest.inputs != cleaned(workspace, name="strict").manifest.inputs


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"rule": ("gofer",)}, "unknown rule `gofer`"),
        ({"set_": ("gopher.least=3",)}, "no threshold `least`"),
        ({"set_": ("gopher.fewest_words=few",)}, "takes a whole number, not `few`"),
        ({"set_": ("gopher",)}, "RULE.THRESHOLD=VALUE"),
        ({"without": ("c4",), "set_": ("c4.longest_word=9",)}, "not applied"),
        ({"name": "web"}, "into itself"),
    ],
)
def test_a_wrong_knob_is_named(workspace: Workspace, knobs: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        cleaned(workspace, **knobs)


GERMAN = (
    "Der Fluss stieg in der Nacht, und am Morgen stand das Wasser in den Straßen der Stadt. "
    "Die Leute trugen ihre Möbel in die oberen Zimmer und warteten am Fenster auf Nachricht. "
    "Am Markt Nummer {0} verkaufte ein Händler Brot und Milch aus einem kleinen Boot. "
    "Gegen Abend fiel das Wasser wieder, und man sah, was der Fluss mitgenommen hatte. "
)
ENGLISH = (
    "The river rose in the night, and in the morning there was water in the streets of the town. "
    "People carried their furniture to the upper rooms and waited at the windows for news. "
    "At number {0} on the market a trader sold bread and milk from a small boat. "
    "Towards evening the water fell, and one could see what the river had taken with it. "
)


@pytest.mark.parametrize(
    ("german", "knobs", "kept"),
    [
        (1, {}, {"en"}),
        (1, {"language": ("all",)}, {"en", "de"}),
        (1, {"language": ("de",)}, {"de"}),
        (10, {}, {"en", "de"}),
    ],
)
def test_a_language_that_is_hardly_there_goes_unless_it_is_asked_for(
    tmp_path: Path, german: int, knobs: dict[str, Any], kept: set[str]
) -> None:
    place = Workspace(tmp_path / "workspace")
    texts = [ENGLISH.format(number) for number in range(40)]
    texts += [GERMAN.format(number) for number in range(german)]
    collected(place, tmp_path / "web.jsonl", texts)

    made = cleaned(place, rule=("language",), exact=False, similarity=0.0, **knobs)

    starts = {row["text"][:3] for row in table(made.path)}
    assert starts == {{"en": "The", "de": "Der"}[code] for code in kept}


def test_nothing_left_is_an_error_that_names_the_rule(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="nothing is left") as refusal:
        cleaned(workspace, set_=("gopher.fewest_words=5000",))

    assert "gopher" in str(refusal.value.hint)
    assert cleaned(workspace).facts["documents"]


def test_a_rule_that_takes_most_of_the_text_is_told_with_how_to_leave_it_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Workspace(tmp_path / "workspace")
    novel = "\n".join(prose(seed) for seed in range(1000))
    collected(place, tmp_path / "books.jsonl", [novel, *(prose(seed, 40) for seed in range(9))])

    cleaned(place)
    lost = capsys.readouterr().err
    cleaned(place, without=("gopher",), name="whole")

    assert "`gopher` dropped 9" in lost
    assert "(many words 1): `--without gopher` keeps it" in lost
    assert "dropped" not in capsys.readouterr().err


def test_shards_of_the_work_merge_to_the_same_corpus(many: Workspace) -> None:
    knobs: dict[str, Any] = {"from_": ("first", "second"), "workers": 1}
    whole = cleaned(many, name="whole", **knobs)
    for index in (2, 0):
        run(Clean(name="shared", shard=f"{index}/3", **knobs), many)

    with pytest.raises(WorkspaceError, match="are not done yet"):
        run(Clean(name="shared", merge=True, **knobs), many)
    run(Clean(name="shared", shard="1/3", **knobs), many)

    assert files(cleaned(many, name="shared", merge=True, **knobs)) == files(whole)


def test_steps_one_by_one_make_the_same_corpus(many: Workspace) -> None:
    knobs: dict[str, Any] = {"from_": ("first", "second"), "workers": 1}
    whole = cleaned(many, name="whole", **knobs)

    with pytest.raises(WorkspaceError, match="bands comes after signatures"):
        run(Clean(name="slow", step="bands", **knobs), many)
    for step in ("signatures", "bands", "clusters"):
        told = run(Clean(name="slow", step=step, **knobs), many)
        assert isinstance(told, dict)
        assert told["step"]["done"] == step
        assert not many.has("corpus", "slow")

    assert files(cleaned(many, name="slow", step="filter", **knobs)) == files(whole)


def test_a_step_that_broke_off_goes_on_where_it_was(
    many: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    knobs: dict[str, Any] = {"from_": ("first", "second"), "workers": 1}
    whole = cleaned(many, name="whole", **knobs)
    run(Clean(name="slow", step="signatures", **knobs), many)
    done: list[str] = []
    write_pairs = bands.write_pairs

    def failing(target: Path, *columns: Any) -> None:
        if len(done) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_pairs(target, *columns)
        done.append(target.name)

    monkeypatch.setattr(bands, "write_pairs", failing)
    with pytest.raises(OSError, match="No space"):
        run(Clean(name="slow", step="bands", **knobs), many)
    with pytest.raises(WorkspaceError, match="clusters comes after bands"):
        run(Clean(name="slow", step="clusters", **knobs), many)
    monkeypatch.setattr(bands, "write_pairs", write_pairs)
    before = (many.draft_path("corpus", "slow") / "work" / "bands" / done[0]).stat().st_mtime_ns
    run(Clean(name="slow", step="bands", **knobs), many)
    after = (many.draft_path("corpus", "slow") / "work" / "bands" / done[0]).stat().st_mtime_ns

    assert before == after
    assert files(cleaned(many, name="slow", **knobs)) == files(whole)


def test_only_signatures_are_made_in_shares(many: Workspace) -> None:
    with pytest.raises(ConfigError, match="clusters is not done in shares"):
        run(Clean(from_=("first",), step="clusters", shard="0/2"), many)


def test_a_shard_with_other_settings_is_refused(many: Workspace) -> None:
    run(Clean(from_=("first",), name="shared", shard="0/2", workers=1), many)

    with pytest.raises(WorkspaceError, match="similarity"):
        run(Clean(from_=("first",), name="shared", shard="1/2", similarity=0.9), many)


@pytest.mark.slow
def test_ray_makes_the_same_corpus(many: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    # Ray's processes learn their address from a UDP socket towards the internet, on which they
    # send nothing; without an internet they go on.
    monkeypatch.setenv("LLMCTL_TESTS_ONLINE", "1")
    knobs: dict[str, Any] = {"from_": ("first", "second"), "workers": 2}

    local = cleaned(many, name="local", **knobs)
    spread = cleaned(many, name="spread", engine="ray", **knobs)

    assert files(local) == files(spread)


@pytest.mark.parametrize("form", ["jsonl", "txt", "json"])
def test_a_text_that_holds_a_test_example_is_dropped_by_name(
    workspace: Workspace, rows: list[str], tmp_path: Path, form: str
) -> None:
    words = rows[7].split()[20:40]
    given = {
        "jsonl": json.dumps({"id": 1, "question": " ".join(words), "options": ["yes", "no"]}),
        "txt": f"A first line.\n{' '.join(words)}",
        "json": json.dumps([{"q": {"text": " ".join(words).upper()}}]),
    }
    path = tmp_path / f"exam.{form}"
    path.write_text(given[form])

    made = cleaned(workspace, decontaminate=(path,))

    assert made.facts["dropped"]["contaminated"] == 1
    (case,) = made.facts["cases"]["contaminated: test example"]
    assert "web/00000-00000.arrow" in case
    assert "web.jsonl:8 " in case
    assert f"exam.{form}:" in case


def test_twelve_words_in_common_are_no_contamination(
    workspace: Workspace, rows: list[str], tmp_path: Path
) -> None:
    common = " ".join(rows[7].split()[20:32])
    (tmp_path / "exam.txt").write_text(f"unheard quokka {common} unheard zebra")

    made = cleaned(workspace, decontaminate=(tmp_path / "exam.txt",))

    assert "contaminated" not in made.facts["dropped"]


def test_a_test_file_of_nothing_to_look_for_is_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "exam.txt").write_text("Too short to find.")

    with pytest.raises(DataError, match="no example of 8 words"):
        cleaned(workspace, decontaminate=(tmp_path / "exam.txt",))


def test_a_dry_run_shows_the_funnel_of_a_sample_and_makes_nothing(
    workspace: Workspace, rows: list[str]
) -> None:
    answer = run(Clean(dry_run=True), workspace)

    assert isinstance(answer, dict)
    assert answer["plan"]["sample"]["documents_in"] == len(rows)
    assert answer["plan"]["documents"] == len(rows)
    assert answer["plan"]["work_bytes"] > 0
    assert [one.name for one in workspace.artifacts()] == ["web"]


def test_no_copies_and_nothing_but_copies_are_remarked_on(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "few": [prose(seed) for seed in range(5)],
        "fresh": [prose(seed) for seed in range(200)],
        "stale": [prose(1)] * 9,
    }
    said: dict[str, str] = {}
    for name, rows in texts.items():
        collected(workspace, tmp_path / f"{name}.jsonl", rows)
        capsys.readouterr()
        cleaned(workspace, from_=(name,))
        said[name] = capsys.readouterr().err

    assert "no copies" not in said["few"]
    assert "no copies were found" in said["fresh"]
    assert "89% of the documents are copies" in said["stale"]


def test_what_reads_like_the_reference_stays_and_of_the_rest_a_little(
    workspace: Workspace, tmp_path: Path
) -> None:
    junk = "buy cheap now click offer deal win free best casino bonus order sale".split()
    chance = random.Random(5)
    spam = [" ".join(chance.choices(junk, k=80)) for _ in range(500)]
    good = [prose(seed) for seed in range(1000, 1030)]
    collected(workspace, tmp_path / "mixed.jsonl", [*good, *spam])
    collected(workspace, tmp_path / "books.jsonl", [prose(seed) for seed in range(2000, 2300)])

    made = cleaned(workspace, from_=("mixed",), reference=("books",), rule=("encoding",))

    kept = [int(row["id"].rpartition(":")[2]) for row in table(made.path)]
    assert sum(number <= 30 for number in kept) >= 10
    assert sum(number > 30 for number in kept) <= 25
    assert made.facts["quality"]["accuracy"] > 0.8
    assert (made.path / "quality.safetensors").exists()


def test_copies_do_not_teach_by_heart_that_good_text_is_raw(
    workspace: Workspace, tmp_path: Path
) -> None:
    junk = "buy cheap now click offer deal win free best casino bonus order sale".split()
    chance = random.Random(5)
    spam = [" ".join(chance.choices(junk, k=80)) for _ in range(400)]
    good = [prose(seed) for seed in range(1000, 1040)]
    copies = [nearly(one) for one in good] + [f"{one} {prose(3, 1)}" for one in good]
    collected(workspace, tmp_path / "mixed.jsonl", [*good, *copies, *spam])
    collected(workspace, tmp_path / "books.jsonl", [prose(seed) for seed in range(2000, 2200)])

    made = cleaned(
        workspace, from_=("mixed",), reference=("books",), rule=("encoding",), similarity=0
    )

    kept = [int(row["id"].rpartition(":")[2]) for row in table(made.path)]
    assert sum(number <= 120 for number in kept) >= 40


def test_too_little_reference_text_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    collected(workspace, tmp_path / "books.jsonl", [prose(2000)])

    with pytest.raises(DataError, match="1 documents of reference are too few"):
        cleaned(workspace, from_=("web",), reference=("books",))


# As much as a user's command does, in bundles as small as those of `many`.
COMMAND = """
import sys
from pathlib import Path
from llmctl.data import screening
from llmctl.stages.clean import Clean, run
from llmctl.workspace import Workspace

screening.LEAST_BYTES = 2000
knobs = {"from_": ("first", "second"), "name": "killed", "keep_dropped": True, "workers": 1}
run(Clean(**knobs), Workspace(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_kills_leave_no_trace_in_the_corpus(many: Workspace) -> None:
    whole = cleaned(many, from_=("first", "second"), name="whole", keep_dropped=True)
    command = [sys.executable, "-c", COMMAND, str(many.root)]
    chance = random.Random(11)

    for _ in range(5):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.4, 0.9))
            process.kill()
    subprocess.run(command, timeout=60, check=True)

    assert files(many.find("corpus", "killed")) == files(whole)
