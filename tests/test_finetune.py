"""Specialists as a user makes them: a file and a base model in, a tuned model and proof out."""

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest
import torch
import transformers
from safetensors.torch import load_file

from llmctl.console import console
from llmctl.data.sources.files import Files
from llmctl.errors import ConfigError, DataError, WorkspaceError
from llmctl.shards import ShardReader
from llmctl.stages import (
    chat,
    clean,
    collect,
    finetune_classify,
    finetune_instruct,
    generate,
    predict,
    pretrain,
    show,
)
from llmctl.stages import eval as evaluate
from llmctl.workspace import Artifact, Workspace

GOOD = "fine sweet warm happy bright lovely gentle merry".split()
BAD = "foul bitter cold sad dark nasty cruel gloomy".split()
THINGS = "day song soup street story garden winter letter".split()
QUICK: dict[str, Any] = {"precision": "float32", "epochs": 6, "learning_rate": 3e-3}


def write_reviews(path: Path, seed: int = 0, rows: int = 240) -> Path:
    draw = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "mood"])
        for number in range(rows):
            words, mood = (GOOD, "good") if number % 2 else (BAD, "bad")
            said = f"a {draw.choice(words)} and {draw.choice(words)} {draw.choice(THINGS)}"
            writer.writerow([f"{said}, number {number}", mood])
    return path


def write_questions(path: Path, rows: int = 80) -> Path:
    draw = random.Random(1)
    asked = [
        {"instruction": f"Say the {kind} word {number}", "input": "", "output": word}
        for number in range(rows)
        for kind, word in [draw.choice([("first", "alpha"), ("last", "omega")])]
    ]
    path.write_text(json.dumps(asked), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _speaking() -> None:
    """Whatever a test before this one asked for, what is said here is heard."""
    console.configure()


@pytest.fixture(scope="module")
def workspace(tiny_workspace: Workspace) -> Workspace:
    size: dict[str, Any] = {"layers": 2, "width": 64, "heads": 2, "context": 128, "batch": 16}
    pretrain.run(pretrain.Pretrain(steps=40, name="tuning-base", **size), tiny_workspace)
    return tiny_workspace


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "reviews.csv")


def classify(workspace: Workspace, file: Path, **knobs: Any) -> Any:
    given: dict[str, Any] = QUICK | {"base": "tuning-base", "distill": 0} | knobs
    config = finetune_classify.FinetuneClassify(file=file, **given)
    return finetune_classify.run(config, workspace)


@pytest.fixture(scope="module")
def classifier(workspace: Workspace, reviews: Path) -> Any:
    return classify(workspace, reviews, distill=None, text_column="review")


@pytest.fixture(scope="module")
def assistant(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = write_questions(tmp_path_factory.mktemp("questions") / "words.json")
    given: dict[str, Any] = QUICK | {"base": "tuning-base", "method": "lora", "samples": 4}
    config = finetune_instruct.FinetuneInstruct(file=file, **given)
    return finetune_instruct.run(config, workspace)


def test_a_classifier_learns_and_is_shown_beside_the_baseline_and_its_base(
    classifier: Any,
) -> None:
    facts = classifier.facts

    assert classifier.manifest.sort == "classifier"
    assert facts["accuracy"] > 0.9 > facts["base_accuracy"]
    assert facts["baseline_accuracy"] > 0.9
    assert {"macro_f1", "mcc", "baseline_macro_f1", "seconds", "duplicates_dropped"} <= set(facts)

    assert (facts["text_column"], facts["label_column"]) == ("review", "mood")
    assert facts["train_examples"] + facts["validation_examples"] + facts["test_examples"] == 240


def test_a_base_that_finds_the_texts_strange_learns_to_write_them_first(
    classifier: Any, workspace: Workspace, reviews: Path
) -> None:
    plain = classify(workspace, reviews, adapt=0, epochs=1, name="not-adapted")

    assert (
        classifier.facts["bits_per_byte_adapted"] < 0.8 * classifier.facts["bits_per_byte_before"]
    )
    assert "bits_per_byte_before" not in plain.facts
    assert {path.name for path in plain.path.iterdir()} == {
        path.name for path in classifier.path.iterdir()
    }


def test_such_a_base_learns_from_mixed_texts_too_unless_tf_idf_shows_that_the_labels_are_easy(
    classifier: Any, workspace: Workspace, tmp_path: Path
) -> None:
    many = write_reviews(tmp_path / "many.csv", rows=600)
    given: dict[str, Any] = {"adapt": 0, "epochs": 0.2}

    easy = classify(workspace, many, name="easy", distill=None, **given)
    asked = classify(workspace, many, name="asked-for", distill=3, **given)

    few, texts = classifier.facts["train_examples"], easy.facts["train_examples"]
    assert classifier.facts["mixed_texts"] == 2 * few
    assert easy.facts["baseline_macro_f1"] > 0.95
    assert easy.facts["mixed_texts"] == 0
    assert asked.facts["mixed_texts"] == 3 * texts
    assert classifier.facts["steps"] <= 6 * -(-few // 16)
    assert [one.facts["init"] for one in (classifier, easy, asked)] == ["base", "counts", "base"]


def test_frozen_states_and_new_texts_do_not_go_together(
    workspace: Workspace, reviews: Path
) -> None:
    with pytest.raises(ConfigError, match="--distill"):
        classify(workspace, reviews, method="head", distill=1, name="frozen-mixed")
    with pytest.raises(ConfigError, match="--init counts"):
        classify(workspace, reviews, method="lora", init="counts", name="frozen-embedding")


def test_pictures_figures_and_a_page_lie_beside_the_model(classifier: Any) -> None:
    figures = json.loads((classifier.path / "report.json").read_text())
    names = {path.name for path in classifier.path.iterdir()}

    assert {"confusion.png", "report.html", "loss.png", "test_predictions.jsonl"} <= names
    assert sum(map(sum, figures["confusion"])) == classifier.facts["test_examples"]
    assert [one["name"] for one in figures["others"]] == [
        "the base model before tuning",
        "TF-IDF + logistic regression",
    ]


def test_transformers_classifies_as_llmctl_does(classifier: Any, workspace: Workspace) -> None:
    texts = ("a merry day", "a cruel and gloomy winter, and a long story to tell. " * 20)
    ours = predict.run(predict.Predict(texts=texts, model=classifier.name), workspace)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(classifier.path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(classifier.path)

    with torch.no_grad():
        given = {"padding": True, "truncation": True, "max_length": 128}
        logits = model(**tokenizer(list(texts), return_tensors="pt", **given)).logits

    theirs = [model.config.id2label[int(row.argmax())] for row in logits]
    shares = [one["probabilities"][one["label"]] for one in ours["predictions"]]
    assert [one["label"] for one in ours["predictions"]] == theirs
    assert shares == pytest.approx(logits.softmax(-1).max(dim=-1).values.tolist(), abs=1e-4)


def test_a_table_is_scored_row_by_row_with_its_columns_kept(
    classifier: Any, workspace: Workspace, tmp_path: Path
) -> None:
    table = write_reviews(tmp_path / "new.csv", seed=5, rows=30)
    config = predict.Predict(file=table, out=tmp_path / "scored.csv", model=classifier.name)

    answer = predict.run(config, workspace)

    with (tmp_path / "scored.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert answer["rows"] == len(rows) == 30
    assert answer["path"] == str(tmp_path / "scored.csv")
    assert answer["columns"] == [*rows[0]]
    assert [*rows[0]] == ["review", "mood", "predicted", "probability", "p(bad)", "p(good)"]
    for row in rows:
        assert float(row["p(bad)"]) + float(row["p(good)"]) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == row[f"p({row['predicted']})"]
    assert sum(row["mood"] == row["predicted"] for row in rows) > 25


def scored(workspace: Workspace, file: Path, out: Path, **knobs: Any) -> list[dict[str, Any]]:
    config = predict.Predict(file=file, out=out, model="reviews", **knobs)
    assert predict.run(config, workspace)["path"] == str(out)
    if out.suffix == ".parquet":
        return parquet.read_table(out).to_pylist()
    with out.open(encoding="utf-8") as rows:
        return list(csv.DictReader(rows))


def test_rows_that_differ_lose_nothing_in_a_table(
    classifier: Any,
    workspace: Workspace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = [{"review": f"a merry day {number}", "gap": None} for number in range(1200)]
    odd = {"review": "a \ud800 day", "gap": "here", "late": 2**60, "mixed": 5, "predicted": "x"}
    rows = [{"review": "a foul day", "mixed": "a", "late": 7}, *plain, odd]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))

    tables = [
        scored(workspace, lines, tmp_path / f"scored.{ending}") for ending in ("parquet", "csv")
    ]

    ours = ["predicted_2", "probability", "p(bad)", "p(good)"]
    for first, *_, last in tables:
        assert [*first] == ["review", "mixed", "late", "gap", "predicted", *ours]
        assert (first["mixed"], last["mixed"]) == ("a", "5")
        assert (last["gap"], last["predicted"], int(last["late"])) == ("here", "x", 2**60)
        assert last["predicted_2"] in ("good", "bad")
    said = capsys.readouterr().err
    assert "several types, written as text: `mixed`" in said
    assert "ours is `predicted_2`" in said


def test_dates_stay_dates_in_a_table(
    classifier: Any, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noon = datetime(2024, 2, 29, 12)
    rows = [
        {
            "review": f"a foul day {number}",
            "made": noon,
            "sent": noon.astimezone(UTC),
            "day": noon.date() if number else None,
            "tags": ["a", "b"],
        }
        for number in range(3)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")

    found = scored(workspace, tmp_path / "rows.parquet", tmp_path / "scored.parquet")

    for row, before in zip(found, rows, strict=True):
        assert [row[name] for name in before] == [*[*before.values()][:-1], '["a", "b"]']
    assert "written as text: `tags`" in capsys.readouterr().err


def test_lines_of_text_are_rows_in_any_encoding(
    classifier: Any, workspace: Workspace, tmp_path: Path
) -> None:
    texts = ["a merry café", "a foul day"]
    for name, encoding in (("a", "utf-16"), ("b", "latin-1"), ("c", "utf-8-sig")):
        file = tmp_path / f"{name}.txt"
        file.write_text("\n\n".join(texts), encoding=encoding)

        judged = predict.run(predict.Predict(file=file, model=classifier.name), workspace)
        rows = scored(workspace, file, tmp_path / f"{name}.csv")

        assert [one["text"] for one in judged["predictions"]] == texts
        assert [row["text"] for row in rows] == texts


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_so_are_lines_that_are_piped_in(
    classifier: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    piped = io.BytesIO("a merry café\r\n\r\na foul day\r\n".encode(encoding))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(piped, encoding="utf-8"))

    judged = predict.run(predict.Predict(model=classifier.name), workspace)

    assert [one["text"] for one in judged["predictions"]] == ["a merry café", "a foul day"]


def test_so_is_what_is_said_in_a_chat(
    assistant: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = io.BytesIO("Say the café\n\n/exit\nmore\n".encode("latin-1"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(piped, encoding="utf-8"))

    said = chat.run(chat.Chat(model=assistant.name, max_tokens=1), workspace)

    assert [one["content"] for one in said["messages"]][::2] == ["Say the café"]


def test_bytes_that_are_no_text_are_refused_where_they_are_piped_in(
    classifier: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(range(256)) * 40)))

    with pytest.raises(DataError, match="stdin cannot be read"):
        predict.run(predict.Predict(model=classifier.name), workspace)


def test_texts_that_are_too_long_to_be_read_to_their_end_are_counted(
    classifier: Any, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_reviews(tmp_path / "long.csv", rows=12)
    with file.open("a", encoding="utf-8") as rows:
        rows.writelines(f"{'a merry day ' * 90}{number},good\n" for number in range(8))

    plan = classify(workspace, file, dry_run=True)
    table = predict.run(predict.Predict(file=file, model=classifier.name), workspace)
    one = predict.run(predict.Predict(texts=("a day " * 200,), model=classifier.name), workspace)
    report = evaluate.run(evaluate.Eval(model=classifier.name, data=str(file)), workspace)

    assert plan["plan"]["most_tokens"] > 0
    assert (table["texts_cut"], one["texts_cut"], report.facts["texts_cut"]) == (8, 1, 8)
    said = capsys.readouterr().err
    assert said.count("texts read no further than 128 tokens, all that fit: 8 of 20") == 2
    assert "1 of 1" in said
    assert "all that fit: 6 of" in said


def test_what_no_table_can_be_scored_by_is_refused(
    classifier: Any, workspace: Workspace, reviews: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no column `nope`") as refusal:
        scored(workspace, reviews, tmp_path / "a.csv", text_column="nope")
    (tmp_path / "lines.txt").write_text("a foul day")
    named = predict.Predict(file=tmp_path / "lines.txt", text_column="nope", model="reviews")
    with pytest.raises(DataError, match="no column `nope`"):
        predict.run(named, workspace)
    with pytest.raises(DataError, match="no files match") as missing:
        scored(workspace, tmp_path / "nosuch.csv", tmp_path / "nosuch-scored.csv")
    with pytest.raises(ConfigError, match="--top"):
        predict.run(predict.Predict(texts=("a",), model=classifier.name, top=0), workspace)

    assert "`review`, `mood`" in str(refusal.value.hint)
    assert "part" not in str(missing.value.hint)


def test_a_model_that_is_taken_by_default_is_named_and_of_the_sort_that_is_needed(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_reviews(tmp_path / "new.csv", rows=40)
    newer = Workspace(tmp_path / "workspace")
    shutil.copytree(workspace.root, newer.root)
    classify(newer, table, name="older", epochs=1)
    asked = finetune_instruct.FinetuneInstruct(
        file=write_questions(tmp_path / "words.json"), name="newer", base="tuning-base", epochs=1
    )
    finetune_instruct.run(asked, newer)
    capsys.readouterr()

    rows = predict.run(predict.Predict(file=table), newer)
    predict.run(predict.Predict(texts=("a merry",)), newer)
    chat.run(chat.Chat(messages=("Hello",), max_tokens=2), newer)
    generate.run(generate.Generate(prompts=("A",), max_tokens=2), newer)

    assert set(rows["classes"]) == {"good", "bad"}
    said = [line for line in capsys.readouterr().err.splitlines() if "models/" in line]
    assert said[:3] == ["asking models/older", "asking models/newer", "talking with models/newer"]
    assert said[3].startswith("writing with models/")


def test_a_table_is_never_replaced_by_its_predictions(
    classifier: Any, workspace: Workspace, tmp_path: Path
) -> None:
    table = write_reviews(tmp_path / "new.csv", rows=3)
    before = table.read_bytes()

    with pytest.raises(ConfigError, match="what is read"):
        scored(workspace, table, tmp_path / "." / "new.csv")

    assert table.read_bytes() == before


def test_eval_finds_on_the_held_out_rows_what_tuning_reported(
    classifier: Any, workspace: Workspace
) -> None:
    config = evaluate.Eval(model=classifier.name, data="reviews:test")

    report = evaluate.run(config, workspace)

    told = "accuracy macro_f1 mcc baseline_accuracy baseline_macro_f1 text_column label_column"
    told += " test_examples train_examples classes duplicates_dropped"
    assert {key: report.facts[key] for key in told.split()} == {
        key: pytest.approx(classifier.facts[key]) for key in told.split()
    }
    assert report.facts["seconds"] > 0


def test_eval_sets_two_classifiers_side_by_side(
    classifier: Any, workspace: Workspace, reviews: Path, tmp_path: Path
) -> None:
    weak = classify(workspace, reviews, name="weak", learning_rate=1e-6, epochs=1)
    file = write_reviews(tmp_path / "fresh.csv", seed=9)
    config = evaluate.Eval(model=classifier.name, compare=weak.name, data=str(file))

    report = evaluate.run(config, workspace)

    assert report.facts["gain_macro_f1"] > 0.2
    assert report.facts["p_value_macro_f1"] < 0.01


def test_eval_asks_a_base_without_a_head_for_the_names_of_the_classes(
    classifier: Any, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    config = evaluate.Eval(model=classifier.name, compare="tuning-base", data=classifier.name)

    report = evaluate.run(config, workspace)

    assert "models/tuning-base has no head over classes" in capsys.readouterr().err
    assert 0 < report.facts["compared_accuracy"] < 0.8 < report.facts["accuracy"]
    assert report.facts["p_value_macro_f1"] < 0.01


def test_eval_takes_the_newest_model_that_the_data_are_for(
    classifier: Any, assistant: Any, workspace: Workspace
) -> None:
    plans: list[Any] = [
        evaluate.run(evaluate.Eval(data=data, dry_run=True), workspace)
        for data in (f"{classifier.name}:test", f"{assistant.name}:test")
    ]

    chosen = [workspace.resolve(plan["plan"]["models"][0]) for plan in plans]
    assert [one.manifest.sort for one in chosen] == ["classifier", "chat-lm"]


def test_eval_takes_the_newest_model_that_a_file_can_be_asked_of(
    classifier: Any, assistant: Any, workspace: Workspace, reviews: Path, tmp_path: Path
) -> None:
    questions = write_questions(tmp_path / "words.json")
    plans: list[Any] = [
        evaluate.run(evaluate.Eval(data=str(file), dry_run=True), workspace)
        for file in (reviews, questions)
    ]

    chosen = [workspace.resolve(plan["plan"]["models"][0]) for plan in plans]
    assert [one.manifest.sort for one in chosen] == ["classifier", "chat-lm"]


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"model": "tuning-base", "data": "reviews"}, "language model, .* holds classes"),
        ({"model": "reviews", "data": "words"}, "classifier, .* holds conversations"),
        ({"model": "words", "data": "words", "compare": "reviews"}, "gives no answers"),
    ],
)
def test_a_model_that_the_data_are_not_for_is_refused_by_name(
    classifier: Any, assistant: Any, workspace: Workspace, knobs: dict[str, Any], told: str
) -> None:
    assert (classifier.name, assistant.name) == ("reviews", "words")

    with pytest.raises(WorkspaceError, match=told):
        evaluate.run(evaluate.Eval(**knobs), workspace)


def test_the_folder_of_a_classifier_is_no_base(
    classifier: Any, workspace: Workspace, reviews: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(classifier.path, tmp_path / "elsewhere")

    with pytest.raises(WorkspaceError, match="is a classifier, not a causal-lm"):
        classify(workspace, reviews, base=str(classifier.path), name="of-a-classifier")
    with pytest.raises(ConfigError, match="is a classifier, not a language model"):
        classify(workspace, reviews, base=str(elsewhere), name="of-a-classifier")


def test_the_same_command_again_finds_the_model_made(
    classifier: Any, workspace: Workspace, reviews: Path
) -> None:
    again = classify(workspace, reviews, distill=None, text_column="review")

    assert again.digest == classifier.digest


def test_adapters_alone_teach_it_too_and_leave_a_plain_model(
    workspace: Workspace, reviews: Path
) -> None:
    made = classify(
        workspace, reviews, method="lora", name="by-lora", learning_rate=3e-3, epochs=12
    )

    assert made.facts["accuracy"] > 0.9
    assert made.facts["trained_parameters"] < 0.4 * made.facts["parameters"]
    assert not [name for name in load_file(made.path / "model.safetensors") if "lora" in name]
    assert_peft_classifies_alike(made.path, workspace.find("model", "tuning-base").path)


def assert_peft_classifies_alike(folder: Path, base: Path) -> None:
    """The adapters beside a classifier, on its base, are that classifier."""
    peft = pytest.importorskip("peft")
    opens = transformers.AutoModelForSequenceClassification.from_pretrained
    with warnings.catch_warnings():
        # PEFT asks transformers by a name that is to go.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")
        theirs = peft.PeftModel.from_pretrained(opens(base, num_labels=2), folder / "adapter")
    text = transformers.AutoTokenizer.from_pretrained(folder)("a merry day", return_tensors="pt")
    with torch.no_grad():
        expected = opens(folder)(**text).logits
        torch.testing.assert_close(theirs(**text).logits, expected, atol=1e-4, rtol=0)
    assert expected.diff().abs() > 0.1


def test_the_method_head_leaves_all_but_the_last_block_as_it_was(
    workspace: Workspace, reviews: Path
) -> None:
    made = classify(workspace, reviews, method="head", name="by-head")
    before = load_file(workspace.find("model", "tuning-base").path / "model.safetensors")

    after = load_file(made.path / "model.safetensors")

    changed = {name for name in after if name in before and not after[name].equal(before[name])}
    assert made.facts["accuracy"] > 0.8
    assert changed
    assert all("layers.1." in name or name == "model.norm.weight" for name in changed)


def test_rare_classes_weigh_more_where_asked(workspace: Workspace, tmp_path: Path) -> None:
    lines = write_reviews(tmp_path / "all.csv", rows=300).read_text().splitlines()
    good = [line for line in lines[1:] if line.endswith("good")]
    rare = [line for line in lines[1:] if line.endswith("bad")][:20]
    (tmp_path / "skewed.csv").write_text("\n".join([lines[0], *good, *rare]))
    short: dict[str, Any] = {"epochs": 6}

    plain = classify(workspace, tmp_path / "skewed.csv", name="plain", **short)
    balanced = classify(workspace, tmp_path / "skewed.csv", name="fair", balance=True, **short)

    recall = [
        json.loads((made.path / "report.json").read_text())["rows"][0]["recall"]
        for made in (plain, balanced)
    ]
    assert recall[1] > recall[0]


def test_text_without_labels_is_sent_to_pretraining(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "prose.txt").write_text("Once upon a time there was a king.\n" * 50)

    with pytest.raises(DataError) as refusal:
        classify(workspace, tmp_path / "prose.txt")

    assert "pretrain --base" in str(refusal.value.hint)


def test_nothing_to_learn_from_is_a_clear_refusal(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="say which texts to learn from"):
        finetune_classify.run(finetune_classify.FinetuneClassify(), workspace)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"label_column": "mood", "test": Path("a.csv")}, "`--label-column`, `--test` would do"),
        ({"file": Path("a.csv")}, "a file and `--data` both say"),
    ],
)
def test_what_decides_how_a_file_is_read_is_refused_beside_data_that_is_read_already(
    given: dict[str, Any], told: str
) -> None:
    config = finetune_classify.FinetuneClassify(data="reviews", **given)

    with pytest.raises(ConfigError, match=told):
        finetune_classify.run(config, Workspace(Path("nowhere")))


def test_templates_are_refused_beside_conversations_that_are_made_already() -> None:
    config = finetune_instruct.FinetuneInstruct(data="words", prompt="{a}", response="{b}")

    with pytest.raises(ConfigError, match="`--prompt`, `--response` would do nothing"):
        finetune_instruct.run(config, Workspace(Path("nowhere")))


@pytest.mark.slow
def test_a_killed_run_with_adapters_goes_on_to_the_very_same_weights(
    workspace: Workspace, reviews: Path
) -> None:
    command = [sys.executable, "-m", "llmctl", "finetune", "classify", str(reviews), "--quiet"]
    command += f"--workspace {workspace.root} --base tuning-base --precision float32".split()
    command += "--epochs 3 --learning-rate 0.003 --save-every 4 --method lora".split()
    command += ["--dropout", "0.2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = [*command, "--name", "lora-whole"]
    undisturbed = subprocess.Popen(whole, env=environment, stderr=subprocess.DEVNULL)
    halved = [*command, "--name", "lora-halved"]
    checkpoints = workspace.draft_path("model", "lora-halved") / "state"

    running = subprocess.Popen(halved, env=environment, stderr=subprocess.DEVNULL)
    while running.poll() is None and not list(checkpoints.glob("step-*")):
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    subprocess.run(halved, env=environment, check=True, capture_output=True)

    assert undisturbed.wait() == 0
    made = [workspace.find("model", name) for name in ("lora-whole", "lora-halved")]
    weights = [load_file(one.path / "model.safetensors") for one in made]
    assert made[1].facts["resumed_from"] is not None
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_an_assistant_learns_its_answers_and_to_stop(assistant: Any, workspace: Workspace) -> None:
    talk = chat.Chat(messages=("Say the last word 7",), model=assistant.name, temperature=0.0)

    answer = chat.run(talk, workspace)

    assert assistant.manifest.sort == "chat-lm"
    assert assistant.facts["test_loss"] < 0.3 * assistant.facts["test_loss_before"]
    assert answer["messages"][-1]["content"] in ("alpha", "omega")


def test_adapters_beside_four_bits_leave_a_plain_model_too(
    assistant: Any, workspace: Workspace
) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra `qlora`")
    given: dict[str, Any] = QUICK | {"base": "tuning-base", "method": "qlora", "samples": 4}
    config = finetune_instruct.FinetuneInstruct(data="words", name="by-qlora", **given)

    made = finetune_instruct.run(config, workspace)

    base, tuned = (
        load_file(one.path / "model.safetensors")
        for one in (workspace.find("model", "tuning-base"), made)
    )
    adapter = load_file(made.path / "adapter" / "adapter_model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    low_rank = [adapter[f"base_model.model.{name}.lora_{half}.weight"] for half in "BA"]
    merged = base[f"{name}.weight"] + 16.0 / 8 * low_rank[0] @ low_rank[1]
    assert made.facts["test_loss_before"] == assistant.facts["test_loss_before"]
    assert made.facts["test_loss"] < 0.3 * made.facts["test_loss_before"]
    assert made.facts["trained_parameters"] == assistant.facts["trained_parameters"]
    torch.testing.assert_close(tuned[f"{name}.weight"], merged, atol=1e-6, rtol=0)
    assert tuned.keys() == base.keys()


def test_four_bits_without_their_library_end_with_the_pip_line(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "bitsandbytes.py").write_text(
        "raise ModuleNotFoundError('no bitsandbytes', name='bitsandbytes')"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    file = write_questions(tmp_path / "words.json")
    command = f"-m llmctl finetune instruct {file} --method qlora --workspace {workspace.root}"

    done = subprocess.run(
        [sys.executable, *command.split()],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 5
    assert "pip install 'llmctl[qlora]'" in done.stderr


def test_magnitudes_beside_four_bits_are_refused() -> None:
    config = finetune_instruct.FinetuneInstruct(data="words", method="qlora", dora=True)

    with pytest.raises(ConfigError, match="whole weights"):
        finetune_instruct.run(config, Workspace(Path("nowhere")))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"rank": 4, "targets": "query"},
            "`--rank`, `--targets` would do nothing: `--method full`",
        ),
        ({"method": "lora", "targets": "query,heads"}, "no matrix `heads`"),
    ],
)
def test_adapters_that_cannot_be_are_refused_before_anything_is_read(
    given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        finetune_classify.run(
            finetune_classify.FinetuneClassify(data="reviews", **given), Workspace(Path("nowhere"))
        )
    with pytest.raises(ConfigError, match=told):
        finetune_instruct.run(
            finetune_instruct.FinetuneInstruct(data="words", **given), Workspace(Path("nowhere"))
        )


def test_transformers_renders_and_stops_as_it_was_trained(assistant: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(assistant.path)
    model = transformers.AutoModelForCausalLM.from_pretrained(assistant.path)
    asked = [{"role": "user", "content": "Say the first word 3"}]
    inputs = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )

    written = model.generate(**inputs, max_new_tokens=30, do_sample=False)

    answer = tokenizer.decode(written[0, inputs["input_ids"].shape[1] :])
    assert answer in ("alpha<|im_end|>", "omega<|im_end|>")


def test_adapters_lie_beside_the_merged_model_as_peft_has_them(assistant: Any) -> None:
    beside = {path.name for path in (assistant.path / "adapter").iterdir()}

    assert {"adapter_config.json", "adapter_model.safetensors"} <= beside
    assert assistant.facts["trained_parameters"] < assistant.facts["parameters"]


def test_answers_of_two_models_are_set_side_by_side(
    assistant: Any, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    config = evaluate.Eval(model=assistant.name, compare="tuning-base", data="words:test")

    report = evaluate.run(config, workspace)

    facts, figures = report.facts, json.loads((report.path / "report.json").read_text())
    said = capsys.readouterr().err
    assert facts["gain_chrf"] == pytest.approx(facts["chrf"] - facts["compared_chrf"])
    assert facts["gain_chrf"] > 0
    assert figures["scores"]["models/words"]["chrf"]["mean"] == facts["chrf"]
    assert figures["gains"]["models/tuning-base"]["chrf"]["gain"] == facts["gain_chrf"]
    assert {"report.html", "scores.png"} <= {path.name for path in report.path.iterdir()}
    assert facts["p_value_chrf"] is None
    assert "p =" not in said
    assert "so few examples (4)" in said


def test_data_whose_name_has_a_dot_is_found_by_it(workspace: Workspace, tmp_path: Path) -> None:
    file = write_questions(tmp_path / "words.json")
    given: dict[str, Any] = {"base": "tuning-base", "name": "r1.5", "inspect": 1}
    finetune_instruct.run(finetune_instruct.FinetuneInstruct(file=file, **given), workspace)

    config = evaluate.Eval(model="tuning-base", data="r1.5:test", dry_run=True)
    plan = evaluate.run(config, workspace)

    assert isinstance(plan, dict)
    assert plan["plan"]["name"] == "tuning-base-on-r1.5-test"


def test_inspect_shows_what_is_trained(
    assistant: Any, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    config = finetune_instruct.FinetuneInstruct(data="words", base="tuning-base", inspect=1)

    shown = finetune_instruct.run(config, workspace)

    (row,) = shown["rows"]
    trained = "".join(
        t for t, is_trained in zip(row["tokens"], row["trained"], strict=True) if is_trained
    )
    assert trained in ("alpha<|im_end|>", "omega<|im_end|>")
    assert f"[{trained}]" in capsys.readouterr().err


def test_the_same_models_and_data_are_the_same_plan_however_they_are_named(
    workspace: Workspace, tmp_path: Path
) -> None:
    alone = Workspace(tmp_path / "workspace")
    for kind in ("models", "labeled"):
        (alone.root / kind).mkdir(parents=True)
    shutil.copytree(workspace.path("model", "tuning-base"), alone.path("model", "tuning-base"))
    file = write_reviews(tmp_path / "moods.csv", rows=40)
    made = classify(alone, file, epochs=1)
    folder = str(alone.path("model", "tuning-base"))

    assert classify(alone, file, epochs=1, base=None).digest == made.digest
    assert classify(alone, file, epochs=1, base=folder).digest == made.digest
    reports = [
        evaluate.run(evaluate.Eval(model=model, data=data), alone)
        for model, data in ((None, "moods"), ("moods", "moods:test"), (str(made.path), "moods"))
    ]
    assert len({report.digest for report in reports if isinstance(report, Artifact)}) == 1
    assert made.manifest.config["base"] == "tuning-base"


def test_the_settings_of_a_specialist_come_back_as_a_file_for_its_command(
    classifier: Any, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show.run(show.Show(artifact=f"models/{classifier.name}", config=True), workspace)
    (tmp_path / "spam.toml").write_text(capsys.readouterr().out)
    command = f"finetune classify --config {tmp_path / 'spam.toml'} --workspace {workspace.root}"

    again = subprocess.run(
        [sys.executable, "-m", "llmctl", *command.split()],
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"{classifier.label} is already made" in again.stderr


def test_a_dry_run_reads_everything_and_makes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    before = {one.label for one in workspace.artifacts()}

    plan = classify(workspace, write_reviews(tmp_path / "dry.csv"), dry_run=True)

    assert plan["plan"]["texts"] == {"train": 168, "validation": 24, "test": 48}
    assert plan["plan"]["most_steps"] == 6 * 11
    assert {one.label for one in workspace.artifacts()} == before


def test_a_dry_run_refuses_a_name_that_cannot_be(
    classifier: Any, workspace: Workspace, reviews: Path, tmp_path: Path
) -> None:
    talk = write_questions(tmp_path / "words.json")
    given: dict[str, Any] = {"name": "my filter", "dry_run": True}
    asked = finetune_instruct.FinetuneInstruct(file=talk, base="tuning-base", **given)

    for dry in (
        lambda: classify(workspace, reviews, **given),
        lambda: finetune_instruct.run(asked, workspace),
        lambda: evaluate.run(evaluate.Eval(data=f"{classifier.name}:test", **given), workspace),
    ):
        with pytest.raises(ConfigError, match="`my filter` cannot be a name"):
            dry()


def test_clean_keeps_what_a_classifier_takes_for_good_and_of_the_rest_a_little(
    classifier: Any, workspace: Workspace, tmp_path: Path
):
    with write_reviews(tmp_path / "more.csv", seed=7, rows=600).open(encoding="utf-8") as file:
        texts = [row["review"] for row in csv.DictReader(file)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "moods.jsonl").write_text(lines)
    collect.run(collect.Collect(source=Files(paths=(str(tmp_path / "moods.jsonl"),))), workspace)
    knobs: dict[str, Any] = {"from_": ("moods",), "rule": ("encoding",), "similarity": 0}

    made: Any = clean.run(clean.Clean(quality_model=classifier.name, **knobs), workspace)

    kept = [row["text"] for batch in ShardReader(made.path) for row in batch.to_pylist()]
    good = sum(text.split()[1] in GOOD for text in kept)
    assert good > 0.95 * 300
    assert len(kept) - good < 0.05 * 300
    assert made.facts["quality"] == {"model": classifier.name, "class": "good"}
    assert classifier.digest in {one.digest for one in made.manifest.inputs}


@pytest.mark.slow
def test_a_judge_says_the_same_in_any_number_of_processes(
    classifier: Any, workspace: Workspace, tmp_path: Path
):
    for seed, name in ((8, "reviews-a"), (9, "reviews-b")):
        path = write_reviews(tmp_path / f"{name}.csv", seed=seed, rows=300)
        collect.run(collect.Collect(source=Files(paths=(str(path),)), name=name), workspace)
    knobs: dict[str, Any] = {"from_": ("reviews-a", "reviews-b"), "rule": ("encoding",)}

    alone, together = (
        clean.run(
            clean.Clean(
                quality_model=classifier.name, name=f"by-{number}", workers=number, **knobs
            ),
            workspace,
        )
        for number in (1, 2)
    )

    assert isinstance(alone, Artifact)
    assert isinstance(together, Artifact)
    assert alone.facts["dropped"]["quality"] > 200
    assert alone.manifest.files == together.manifest.files


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"quality_class": "fine"}, "no class `fine`"),
        ({"quality_model": "tuning-base"}, "is a causal-lm, not a classifier"),
        ({"reference": ("topics",)}, "two ways to the same"),
    ],
)
def test_a_judge_that_cannot_judge_is_refused(
    classifier: Any, workspace: Workspace, knobs: dict[str, Any], told: str
):
    given: dict[str, Any] = {"quality_model": classifier.name, "name": "refused"} | knobs

    with pytest.raises((ConfigError, WorkspaceError), match=told):
        clean.run(clean.Clean(from_=("topics",), **given), workspace)


def test_a_dry_run_refuses_answers_of_which_none_fits(workspace: Workspace, tmp_path: Path) -> None:
    rows = [{"prompt": f"Count to {n}", "completion": "one " * 200} for n in range(30)]
    (tmp_path / "long.json").write_text(json.dumps(rows), encoding="utf-8")
    config = finetune_instruct.FinetuneInstruct(
        file=tmp_path / "long.json", base="tuning-base", dry_run=True
    )

    with pytest.raises(DataError, match="of the train split fits into 128 tokens"):
        finetune_instruct.run(config, workspace)


def test_a_context_that_the_base_does_not_have_is_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    config = finetune_instruct.FinetuneInstruct(
        file=write_questions(tmp_path / "words.json"),
        base="tuning-base",
        context=129,
        dry_run=True,
    )

    with pytest.raises(ConfigError, match="more than the 128 tokens of models/tuning-base"):
        finetune_instruct.run(config, workspace)


def test_held_out_answers_that_do_not_fit_are_named_and_not_counted(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = tmp_path / "held.json"
    rows = [{"prompt": f"Count {n}", "completion": "one " * (200 if n else 2)} for n in range(3)]
    held.write_text(json.dumps(rows), encoding="utf-8")
    given: dict[str, Any] = {"base": "tuning-base", "epochs": 1, "samples": 1, "name": "long-test"}
    file = write_questions(tmp_path / "words.json")

    made = finetune_instruct.run(
        finetune_instruct.FinetuneInstruct(file=file, test=held, **given), workspace
    )

    assert isinstance(made, Artifact)
    assert made.facts["test_examples"] == 1
    told = "test: conversations left out, whose answers do not fit: 2 (the first: held.json:2"
    assert told in capsys.readouterr().err


def test_a_side_of_which_none_fits_is_named(workspace: Workspace, tmp_path: Path) -> None:
    held, longest = tmp_path / "held.json", "one " * 200
    held.write_text(json.dumps([{"prompt": "Count", "completion": longest}]), encoding="utf-8")
    config = finetune_instruct.FinetuneInstruct(
        file=write_questions(tmp_path / "words.json"), test=held, base="tuning-base", dry_run=True
    )

    with pytest.raises(DataError, match="of the test split fits into 128 tokens") as refusal:
        finetune_instruct.run(config, workspace)

    assert "--seed" in str(refusal.value.hint)


def test_a_dry_run_tells_the_steps_that_the_run_then_takes(
    assistant: Any, workspace: Workspace, tmp_path: Path
) -> None:
    file = write_questions(tmp_path / "dry.json")
    given: dict[str, Any] = QUICK | {"base": "tuning-base", "method": "lora", "dry_run": True}

    plan = finetune_instruct.run(finetune_instruct.FinetuneInstruct(file=file, **given), workspace)

    assert isinstance(plan, dict)
    assert plan["plan"]["most_steps"] == assistant.facts["steps"]
