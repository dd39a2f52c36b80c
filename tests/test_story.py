"""The main job as a user types it: raw text in, models that write, sort and answer out."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import datasets
import pytest
import transformers

SMALL = "--layers 2 --width 64 --heads 2 --context 256 --batch 4 --steps 60 --seed 1".split()
ROOT = Path(__file__).parents[1]
# The examples' paths begin at the root of the repository; one round shows that all of it fits.
QUICK = "--epochs 1 --precision float32".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("story")
    (folder / "notes").mkdir()
    for name, text in sorted(topics.items())[:40]:
        (folder / "notes" / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def llmctl(place: Path, *words: str, code: int = 0, at: Path | None = None) -> Any:
    command = [sys.executable, "-m", "llmctl", *words, "--json"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "LLMCTL_WORKSPACE": str(place / "workspace"),
    }
    done = subprocess.run(
        command, cwd=at or place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def story(place: Path) -> dict[str, Any]:
    steps = {
        "collect": llmctl(place, "collect", "files", "notes"),
        "tokenize": llmctl(place, "tokenize", "--vocab-size", "512"),
        "pretrain": llmctl(place, "pretrain", *SMALL),
    }
    with ThreadPoolExecutor(2) as pool:
        uses = {
            "predict": pool.submit(llmctl, place, "predict", "The name of the ___"),
            "generate": pool.submit(llmctl, place, "generate", "The name", "--max-tokens", "12"),
        }
        steps |= {name: use.result() for name, use in uses.items()}
        examples = {
            "support": pool.submit(example, place, "instruct", "support", "--samples", "2"),
            "spam": pool.submit(example, place, "classify", "spam"),
        }
        return steps | {name: made.result() for name, made in examples.items()}


def example(place: Path, kind: str, name: str, *more: str) -> Any:
    file = f"examples/{name}/{name}.toml"
    return llmctl(place, "finetune", kind, "--config", file, *QUICK, *more, at=ROOT)


def test_every_step_names_what_it_made_and_gives_its_facts(story: dict[str, Any]) -> None:
    labels = {
        step: (story[step]["artifact"]["kind"], story[step]["artifact"]["name"])
        for step in ("collect", "tokenize", "pretrain")
    }

    assert labels == {
        "collect": ("corpus", "notes"),
        "tokenize": ("tokens", "notes"),
        "pretrain": ("model", "base"),
    }
    assert story["collect"]["facts"]["documents"] == 40
    assert story["tokenize"]["facts"]["vocab_size"] == 512


def test_the_model_learns(story: dict[str, Any], place: Path) -> None:
    lines = (place / "workspace/models/base/metrics.jsonl").read_text().splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if "loss" in row]

    assert losses[-1] < 0.8 * losses[0]
    assert story["pretrain"]["facts"]["val_loss"] < 0.8 * losses[0]


def test_tokens_are_accounted_for(story: dict[str, Any]) -> None:
    facts = story["pretrain"]["facts"]

    accounted = facts["tokens_trained"] + facts["tokens_padded"] + facts["tokens_dropped"]
    assert facts["tokens"] == 60 * 4 * 256 == accounted


def test_the_next_tokens_are_a_distribution(story: dict[str, Any]) -> None:
    (prediction,) = story["predict"]["predictions"]
    probabilities = [row["probability"] for row in prediction["next"]]

    assert len(probabilities) == 10
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1


def test_the_model_writes_on(story: dict[str, Any]) -> None:
    (completion,) = story["generate"]["completions"]

    assert completion["tokens"] == 12
    assert completion["text"]


def test_the_examples_make_specialists_and_say_what_that_brought(
    story: dict[str, Any], place: Path
) -> None:
    spam, support = story["spam"]["facts"], story["support"]["facts"]
    tested = {name: story[name]["artifact"]["name"] for name in ("spam", "support")}

    assert tested == {"spam": "spam", "support": "support"}
    assert spam["test_examples"] == 120
    assert {"accuracy", "base_accuracy", "baseline_accuracy"} <= set(spam)
    assert support["test_loss"] < support["test_loss_before"]
    assert support["left_out"] < 0.1 * support["train_examples"]


def test_a_specialist_is_used_and_judged_like_any_model(story: dict[str, Any], place: Path) -> None:
    (judged,) = llmctl(place, "predict", "you won", "--model", "spam")["predictions"]
    answered = llmctl(
        place, "eval", "--model", "support", "--compare", "base", "--data", "support:test",
        "--limit", "2",
    )  # fmt: skip

    assert set(judged["probabilities"]) == {"ham", "spam"}
    assert "compared_chrf" in answered["facts"]


def test_transformers_and_datasets_open_everything_with_no_conversion(
    story: dict[str, Any], place: Path
) -> None:
    workspace = place / "workspace"

    corpus = datasets.load_from_disk(str(workspace / "corpora/notes"))
    tokens = datasets.load_from_disk(str(workspace / "tokens/notes"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(workspace / "models/base")
    model = transformers.AutoModelForCausalLM.from_pretrained(workspace / "models/base")

    assert len(corpus) == 40
    assert tokens["train"][0]["ids"][0] == tokenizer.eos_token_id
    assert model.config.vocab_size == 512
    assert tokenizer.decode(tokenizer("a b", add_special_tokens=False)["input_ids"]) == "a b"


def test_lineage_reaches_from_the_model_to_the_source(story: dict[str, Any], place: Path) -> None:
    tree = llmctl(place, "show", "models/base", "--lineage")

    (tokens,) = tree["inputs"]
    corpus, tokenizer = tokens["inputs"]
    assert tokens["label"] == "tokens/notes"
    assert (corpus["label"], tokenizer["label"]) == ("corpora/notes", "tokenizers/default")
    assert "outside" in corpus["inputs"][0]["label"]


def test_verify_passes_and_names_a_file_that_was_touched(
    story: dict[str, Any], place: Path
) -> None:
    whole = {one["artifact"] for one in llmctl(place, "verify")["verified"]}
    assert {"corpora/notes", "tokens/notes", "models/base", "models/spam"} <= whole
    path = place / "workspace/models/base/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)

    refusal = llmctl(place, "verify", "models/base", code=3)

    content[-5] ^= 1
    path.write_bytes(content)
    assert refusal["error"]["code"] == 3
    assert "model.safetensors" in refusal["error"]["message"]


def test_the_report_is_one_page_that_needs_no_other_file(
    story: dict[str, Any], place: Path
) -> None:
    page = (place / "workspace/models/base/report.html").read_text(encoding="utf-8")

    assert "models/base" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert (place / "workspace/models/base/loss.png").stat().st_size > 10_000


def test_a_changed_corpus_stops_pretraining_by_name(story: dict[str, Any], place: Path) -> None:
    (place / "notes" / "extra.txt").write_text("one more note " * 30, encoding="utf-8")
    changed = llmctl(place, "collect", "files", "notes", code=3)
    llmctl(place, "collect", "files", "notes", "--force")

    stale = llmctl(place, "pretrain", "--name", "other", *SMALL, code=3)

    assert "other settings" in changed["error"]["message"]
    assert "corpora/notes has changed" in stale["error"]["message"]


def test_the_example_scores_what_the_model_says_of_the_small_world(
    story: dict[str, Any], place: Path
) -> None:
    script = Path(__file__).parents[1] / "examples" / "demo" / "score_probes.py"

    done = subprocess.run(
        [sys.executable, str(script), "workspace"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    kinds = [line.split()[0] for line in done.stdout.splitlines()]
    assert kinds == ["told", "held-out", "once"]
