import json
from collections import Counter
from itertools import islice
from pathlib import Path

import datasets
import pytest

from llmctl.data.labeled.artifact import (
    labeled_kind,
    read_classes_artifact,
    read_conversations_artifact,
    read_dialogues,
    read_examples,
    write_classes,
    write_conversations,
)
from llmctl.data.labeled.classes import ClassSet, read_classes, read_test
from llmctl.data.labeled.columns import find_text_columns, read_text
from llmctl.data.labeled.conversations import read_conversations
from llmctl.data.labeled.sheet import look_at
from llmctl.data.labeled.splits import side_form
from llmctl.data.labeled.table import read_records
from llmctl.errors import DataError

REAL = {
    "spam/spam.csv": ("v2", "v1", 2),
    "spam/sms_spam.tsv": ("2", "1", 2),
    "classify/sst2/train.tsv": ("1", "2", 2),
    "classify/ag_news/test.csv": ("2+3", "1", 4),
    "classify/airline_tweets.csv": ("text", "airline_sentiment", 3),
    "classify/korean_chatbot.csv": ("Q", "label", 3),
    "classify/banking77/train.csv": ("text", "category", 77),
}
SHAPES = {
    "instruct/alpaca_2000.json": ("Alpaca", 2000),
    "instruct/self_instruct_seed_tasks.jsonl": ("Alpaca with several instances", 175),
    "chat/sharegpt_dummy.json": ("ShareGPT", 500),
    "chat/messages_sft_demo.jsonl": ("OpenAI messages", 499),
    "chat/oasst_en_100_tree.jsonl": ("OASST trees, a conversation for each last answer", 546),
    "math/gsm8k_test.jsonl": ("prompt and response", 1319),
    "classify/korean_chatbot.csv": ("prompt and response", 11750),
}


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = (json.dumps({"text": text, "label": label}) for text, label in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def numbered(count: int = 60) -> list[tuple[str, str]]:
    return [(f"The letter number {n} is here", ("ham", "spam", "ham")[n % 3]) for n in range(count)]


def texts(found: ClassSet, split: str) -> set[str]:
    return {side_form(one.text) for one in found.splits[split]}


@pytest.mark.parametrize("file", REAL)
def test_real_files_need_no_flag(file, shared_data):
    text, label, classes = REAL[file]

    found = read_classes(shared_data / file)

    assert (found.facts["text_column"], found.facts["label_column"]) == (text, label)
    assert len(found.classes) == classes
    assert found.facts["rejected"] == {}


def test_a_given_test_is_kept_whole_and_its_texts_leave_the_training(shared_data):
    folder = shared_data / "classify" / "banking77"

    found = read_classes(folder / "train.csv", test=folder / "test.csv")

    assert len(found.splits["test"]) == 3080
    assert found.facts["leaks"] > 0
    assert not texts(found, "test") & (texts(found, "train") | texts(found, "validation"))


def test_rows_that_a_model_cannot_be_scored_by_are_counted_by_reason(tmp_path):
    rows = [("fine", "ham"), ("so so", "dunno"), ("well", "dunno"), ("odd", ""), ("bad", "spam")]

    found = read_test(write_rows(tmp_path / "a.jsonl", rows), ["ham", "spam"])

    assert [one.text for one in found.examples] == ["fine", "bad"]
    assert found.facts["rejected"] == {"no label": 1, "label not the model's": 2}
    assert "label not the model's: 2 (the first: a.jsonl:2 (dunno))" in found.remarks[-1]


def test_texts_and_labels_are_found_in_fields_of_objects(tmp_path):
    rows = [
        {
            "id": n,
            "by": ("ann", "bob")[n % 3 % 2],
            "ticket": {"no": f"T-{n}", "body": f"Where is parcel {n} of mine?"},
            "meta": {"category": ("late", "lost")[n % 2]},
        }
        for n in range(40)
    ]
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    found = read_classes(lines)
    named = read_classes(lines, text_column="ticket.no + ticket.body", label_column="meta.category")
    new = look_at(lines, trained_on="ticket.body")

    assert (found.facts["text_column"], found.facts["label_column"]) == (
        "ticket.body",
        "meta.category",
    )
    assert found.classes == named.classes == ("late", "lost")
    assert "T-0\nWhere is parcel 0 of mine?" in {
        one.text for side in named.splits.values() for one in side
    }
    assert next(iter(new)).texts[0] == "Where is parcel 0 of mine?"
    assert [*new.kinds] == ["id", "by", "ticket", "meta"]


def test_texts_that_differ_in_case_and_punctuation_stand_on_one_side(tmp_path):
    rows = [
        (form.format(n), ("a", "b")[n % 2])
        for n in range(80)
        for form in ("Win prize {}", "win PRIZE {}!!", "Win  prize, {}")
    ]

    found = read_classes(write_rows(tmp_path / "a.jsonl", rows))

    assert not texts(found, "train") & texts(found, "test")
    assert not texts(found, "train") & texts(found, "validation")
    assert not texts(found, "validation") & texts(found, "test")
    assert sum(map(len, found.splits.values())) == 240


def test_every_side_has_the_shares_of_the_classes(tmp_path):
    found = read_classes(write_rows(tmp_path / "a.jsonl", numbered(600)))

    for split, rows in {"train": 420, "validation": 60, "test": 120}.items():
        counts = Counter(one.label for one in found.splits[split])
        assert counts == {0: rows * 2 // 3, 1: rows // 3}


@pytest.mark.parametrize("nothing", ["NaN", "<NA>", "NULL", "#N/A"])
def test_what_other_programs_write_into_empty_cells_is_no_class(tmp_path, nothing):
    rows = [*numbered(60), *((f"left open {n}", nothing) for n in range(9))]

    found = read_classes(write_rows(tmp_path / "a.jsonl", rows))

    assert found.classes == ("ham", "spam")
    assert found.facts["rejected"] == {"no label": 9}


@pytest.mark.parametrize("classes", [2, 60])
def test_classes_of_two_texts_still_fill_every_side(tmp_path, classes):
    rows = [(f"text {n} of {name}", f"class {name}") for name in range(classes) for n in range(2)]

    found = read_classes(write_rows(tmp_path / "a.jsonl", rows))
    turned = read_classes(write_rows(tmp_path / "b.jsonl", rows[::-1]))

    assert len(found.splits["train"]) == classes
    assert found.splits["validation"]
    assert found.splits["test"]
    assert texts(found, "validation") == texts(turned, "validation")


def test_texts_that_leave_a_side_empty_are_refused_with_how_many_are_needed(tmp_path):
    rows = [("good day", "a"), ("good night", "a"), ("bye", "b")]

    with pytest.raises(DataError, match="nothing is left for validation") as refusal:
        read_classes(write_rows(tmp_path / "a.jsonl", rows))

    assert "add 1 at least" in str(refusal.value.hint)


@pytest.mark.parametrize(("questions", "needed"), [(["Why?"] * 9, 2), (["Why?", "How?"], 1)])
def test_so_are_conversations_of_too_few_questions(tmp_path, questions, needed):
    rows = [{"prompt": one, "completion": f"So {n}."} for n, one in enumerate(questions)]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")

    with pytest.raises(DataError, match="too few different questions") as refusal:
        read_conversations(tmp_path / "a.json")

    assert f"add {needed} at least" in str(refusal.value.hint)


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_the_file(tmp_path):
    rows = numbered()
    one = read_classes(write_rows(tmp_path / "a.jsonl", rows))
    turned = read_classes(write_rows(tmp_path / "b.jsonl", rows[::-1]))
    other = read_classes(write_rows(tmp_path / "a.jsonl", rows), seed=1)

    assert texts(one, "test") == texts(turned, "test")
    assert texts(one, "test") != texts(other, "test")


def test_of_a_text_with_two_labels_the_more_frequent_one_holds_and_a_tie_leaves_it_out(tmp_path):
    rows = [*numbered(), ("Odd one", "ham"), ("odd one", "ham"), ("ODD one", "spam")]
    rows += [("Even one", "ham"), ("Even one", "spam")]

    found = read_classes(write_rows(tmp_path / "a.jsonl", rows))

    kept = [one for side in found.splits.values() for one in side if "one" in one.text.split()]
    assert [found.classes[one.label] for one in kept] == ["ham", "ham"]
    assert [one["kept"] for one in found.facts["conflicts"]] == ["ham", None]
    assert found.facts["conflicts"][1]["rows"] == ["a.jsonl:64", "a.jsonl:65"]


def test_rows_that_say_the_same_count_for_their_label(tmp_path):
    rows = [*numbered(), *[("Odd one", "spam")] * 5, ("Odd one", "ham")]

    found = read_classes(write_rows(tmp_path / "a.jsonl", rows))

    (kept,) = (one for side in found.splits.values() for one in side if one.text == "Odd one")
    assert found.classes[kept.label] == "spam"
    assert found.facts["conflicts"][0]["labels"] == {"spam": 5, "ham": 1}
    assert found.facts["duplicates_dropped"] == 4


def test_columns_the_wrong_way_round_are_taken_for_that(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", numbered())

    with pytest.raises(DataError, match="several labels, so that none holds: `ham` has") as refusal:
        read_classes(path, text_column="label", label_column="text")

    assert "wrong way round" in str(refusal.value.hint)


def test_a_folder_of_texts_without_a_label_is_no_class(tmp_path):
    sides = {"train": ("neg", "pos", "unsup"), "test": ("neg", "pos")}
    for side, labels in sides.items():
        for label in labels:
            (tmp_path / side / label).mkdir(parents=True)
            for n in range(6):
                path = tmp_path / side / label / f"{n}.txt"
                path.write_text(f"{side} {label} {n}", encoding="utf-8")

    found = read_classes(tmp_path)

    assert found.classes == ("neg", "pos")
    assert any("no label: 6 (the first: train/unsup/0.txt" in said for said in found.remarks)


def test_a_class_that_a_given_test_lacks_is_said(tmp_path):
    train = write_rows(tmp_path / "a.jsonl", numbered())
    test = write_rows(tmp_path / "b.jsonl", [(f"new {n}", "ham") for n in range(6)])

    found = read_classes(train, test=test)

    assert found.remarks[-1] == "classes of which the test holds no text: `spam`"


def test_ids_say_the_line_in_which_a_text_stands(tmp_path):
    lines = ["text,label", '"two\nlines a",x']
    lines += [f"text {n},{'xy'[n % 2]}" for n in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")

    found = read_classes(tmp_path / "a.csv")

    places = {one.text: one.id for side in found.splits.values() for one in side}
    assert places["text 0"] == "a.csv:4"


def test_what_is_refused_is_named_by_its_line_whatever_stands_above(tmp_path):
    lines = ["", "text,label", '"two\nlines",x', "", "short", "no label,", '"open,x']
    lines += [f"text {n},{'xy'[n % 2]}" for n in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")

    found = read_classes(tmp_path / "a.csv")

    assert {
        reason: [one.split()[0] for one in at] for reason, at in found.facts["cases"].items()
    } == {
        "wrong number of columns": ["a.csv:6"],
        "no label": ["a.csv:7"],
        "unclosed quote": ["a.csv:8"],
    }


def test_a_test_with_labels_that_were_never_trained_is_refused_by_line(tmp_path):
    train = write_rows(tmp_path / "a.jsonl", numbered())
    test = write_rows(tmp_path / "b.jsonl", [(f"new {n}", "ab"[n % 2]) for n in range(6)])

    with pytest.raises(DataError, match=r"b\.jsonl:1: label not in the training"):
        read_classes(train, test=test)


def test_texts_to_predict_are_read_from_the_columns_that_were_trained(tmp_path):
    (tmp_path / "new.csv").write_text("id,subject,body\n1,Hello,How are you?\n", encoding="utf-8")
    rows = [*islice(read_records(tmp_path / "new.csv"), 10)]

    names = find_text_columns(rows, "subject+body")

    assert read_text(rows[0].values, names) == "Hello\nHow are you?"


@pytest.mark.parametrize("file", SHAPES)
def test_real_conversations_are_recognised(file, shared_data):
    shape, conversations = SHAPES[file]

    found = read_conversations(shared_data / file)

    assert found.facts["shape"] == shape
    assert sum(found.facts["rows"].values()) == conversations


def test_no_first_question_stands_on_two_sides(shared_data):
    found = read_conversations(shared_data / "chat" / "oasst_en_100_tree.jsonl", test_share=0.2)

    train, test = (
        {side_form(one.question) for one in found.splits[split]} for split in ("train", "test")
    )
    assert train
    assert test
    assert not train & test


def test_what_one_side_sends_in_a_row_is_one_message(tmp_path):
    rest = [
        {"role": "user", "content": "It is urgent"},
        {"role": "assistant", "content": "One moment."},
        {"role": "assistant", "content": "There."},
    ]
    rows = [{"messages": [{"role": "user", "content": f"Where is {n}?"}, *rest]} for n in range(5)]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")

    found = read_conversations(tmp_path / "a.json")

    (one, *_) = found.splits["train"]
    assert [each.role for each in one.messages] == ["user", "assistant"]
    assert one.question.endswith("?\n\nIt is urgent")
    assert one.messages[-1].content == "One moment.\n\nThere."
    assert "messages joined to the one before, of the same side: 10" in found.remarks


def test_an_answer_of_weight_0_is_read_and_not_learnt(tmp_path):
    rest = [
        {"role": "assistant", "content": "There.", "weight": 0},
        {"role": "user", "content": "No"},
        {"role": "assistant", "content": "Here.", "weight": 1},
    ]
    asked = [{"role": "user", "content": f"Where is {n}?"} for n in range(5)]
    rows = [{"messages": [one, *rest]} for one in asked]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")

    write_conversations(read_conversations(tmp_path / "a.json"), tmp_path)

    (one, *_) = read_dialogues(tmp_path, "train")
    assert [(each.content, each.trained) for each in one.messages[1:]] == [
        ("There.", False),
        ("No", True),
        ("Here.", True),
    ]


def test_templates_make_a_conversation_of_any_columns(tmp_path):
    rows = [{"case": f"Case {n}", "ruling": "Paid", "cite": f"{n} BGE"} for n in range(5)]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")

    found = read_conversations(
        tmp_path / "a.json",
        prompt="What of {case}?",
        response="{cite}: {ruling}",
        system="Answer as a judge.",
    )

    first = min((one for side in found.splits.values() for one in side), key=lambda one: one.id)
    assert [(one.role, one.content) for one in first.messages] == [
        ("system", "Answer as a judge."),
        ("user", "What of Case 0?"),
        ("assistant", "0 BGE: Paid"),
    ]


def test_classes_come_back_from_disk_and_open_as_a_dataset(tmp_path):
    found = read_classes(write_rows(tmp_path / "a.jsonl", [*numbered(), ("x y", "ham")]))

    write_classes(found, tmp_path)

    opened = datasets.load_from_disk(str(tmp_path))
    assert read_classes_artifact(tmp_path) == found
    assert read_examples(tmp_path, "test") == found.splits["test"]
    assert opened["train"].features["label"].names == ["ham", "spam"]
    assert labeled_kind(tmp_path) == "classes"
    with pytest.raises(DataError, match="holds classes, not conversations"):
        read_conversations_artifact(tmp_path)


def test_data_of_another_version_are_refused_with_both(tmp_path):
    write_classes(read_classes(write_rows(tmp_path / "a.jsonl", numbered(60))), tmp_path)
    facts = tmp_path / "labeled.json"
    facts.write_text(facts.read_text(encoding="utf-8").replace('"schema": 1', '"schema": 9'))

    with pytest.raises(DataError, match="was written in schema 9, not 1") as refusal:
        read_classes_artifact(tmp_path)

    assert "make it anew" in str(refusal.value.hint)


def test_conversations_come_back_from_disk_even_with_an_empty_split(tmp_path):
    rows = [{"prompt": f"Why {n}?", "completion": "So."} for n in range(10)]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    found = read_conversations(tmp_path / "a.json", validation=0)

    write_conversations(found, tmp_path)

    opened = datasets.load_from_disk(str(tmp_path))
    assert read_conversations_artifact(tmp_path) == found
    assert read_dialogues(tmp_path, "test") == found.splits["test"]
    assert opened["test"][0]["messages"][1] == {
        "role": "assistant",
        "content": "So.",
        "trained": True,
    }
    assert len(opened["validation"]) == 0
