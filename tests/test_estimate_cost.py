import contextlib
import csv
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmctl.cli.main import main
from llmctl.workspace import Workspace

CONTRACT = {
    "flops", "gpu_hours", "days", "gpus", "cost_usd", "energy_kwh", "tco2e", "memory_per_gpu_gb",
}  # fmt: skip
FIELDS = {"low", "mid", "high", "unit", "formula", "source"}
HEAD = "name,stage,method,params_total,params_active,tokens,gpu,n_gpus,precision,year,context\n"


def asked(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_answer_keeps_its_contract(capsys: pytest.CaptureFixture[str]):
    told = asked(capsys, "estimate-cost", "--params", "175B", "--tokens", "300e9")

    assert told.keys() >= {*CONTRACT, "mfu", "inputs"}
    assert all(told[name].keys() >= FIELDS for name in CONTRACT)
    assert told["flops"]["mid"] == pytest.approx(3.15e23)
    assert told["mfu"]["source"] == "prior"


def test_it_loads_no_torch_and_nothing_that_a_pipe_does_not_need():
    words = [sys.executable, "-X", "importtime", "-m", "llmctl", "estimate-cost", "--params", "7b"]

    done = subprocess.run(words, capture_output=True, text=True, check=True)

    loaded = set(re.findall(r"^import time:.*\| +(\w+)", done.stderr, re.MULTILINE))
    heavy = {"torch", "numpy", "pyarrow", "datasets", "tokenizers", "matplotlib"}
    slow = {"_decimal", "_hashlib", "filelock", "rich", "tempfile", "tomllib"}
    assert loaded & {*heavy, *slow} == set()


@pytest.mark.parametrize("words", [
    "", "--params 0", "--params=-7b", "--params nan", "--params 7b --mfu 1.5",
    "--params 7b --gpu banana", "--params 7b --gpus 0", "--params 7b --days=-1",
    "--params 7b --gpus 6 --tp 4", "--params 7b --zero 4", "--params 7b --active 8b",
    "--params 7b --context 0", "--params 7b --epochs inf --stage lora",
    "--params 7b --kwh-price=-1", "--params 7b --batch-tokens 5", "--params 7b --model gpt2",
    "--params 7b --plot /nowhere/at/all.png", "--model llama-9", "--budget 0",
    "--runs nope.csv --out out.csv", "--runs nope.csv", "--budget 1e6 --params 7b",
    "--budget 1e6 --tokens 1e9", "--story gpt3 --params 7b", "--story gpt3 --compare",
    "--params 7b --examples 1000", "--model gpt2 --active 1e6", "--params 7b --tp 0",
])  # fmt: skip
def test_nonsense_is_refused_with_exit_code_2(words: str, capsys: pytest.CaptureFixture[str]):
    told = asked(capsys, "estimate-cost", *words.split(), code=2)

    assert told["error"]["message"]


def test_words_are_converted_to_tokens_and_it_is_said(capsys: pytest.CaptureFixture[str]):
    told = asked(capsys, "estimate-cost", "--params", "1b", "--words", "3e9")

    assert told["inputs"]["tokens"] == 4e9
    assert any("words" in note for note in told["notes"])


def test_tokens_that_nobody_says_are_compute_optimal(capsys: pytest.CaptureFixture[str]):
    told = asked(capsys, "estimate-cost", "--params", "1b")

    assert told["inputs"]["tokens"] == 20e9
    assert any("compute-optimal" in note for note in told["notes"])


def test_a_config_json_is_counted_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({
        "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257,
        "n_positions": 1024,
    }))  # fmt: skip

    told = asked(capsys, "estimate-cost", "--config", str(file))

    assert told["inputs"]["parameters"] == 124_439_808


def test_a_table_of_runs_is_answered_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs, out = tmp_path / "runs.csv", tmp_path / "out.csv"
    runs.write_text(
        HEAD + "known,pretrain,from-scratch,7e9,7e9,1e12,A100-SXM-80GB,256,bf16,2023,2048\n"
        "vague,pretrain,,7e9,,1e12,A100,,,,\n"
        "no count,pretrain,,7e9,7e9,1e12,A100-SXM-80GB,,bf16,2023,2048\n"
        "no tokens,finetune,lora-r16,7e9,7e9,,H100,8,bf16,2024,2048\n"
        "no such chip,pretrain,,7e9,7e9,1e12,abacus,8,bf16,2024,2048\n"
        "nonsense,pretrain,,-7,7e9,1e12,H100,8,bf16,2024,2048\n"
    )

    told = asked(capsys, "estimate-cost", "--runs", str(runs), "--out", str(out))

    known, vague, uncounted, *others = csv.DictReader(out.read_text().splitlines())
    assert told["without_prediction"] == 3
    assert float(known["gpu_hours_low"]) < float(known["gpu_hours_mid"])
    widths = [
        float(row["gpu_hours_high"]) / float(row["gpu_hours_low"])
        for row in (known, uncounted, vague)
    ]
    assert widths == sorted(set(widths))
    assert "A100" in vague["why"]
    assert all(row["gpu_hours_mid"] == "" and row["why"] for row in others)


def test_the_story_computes_its_ratio(capsys: pytest.CaptureFixture[str]):
    told = asked(capsys, "estimate-cost", "--story", "gpt3")

    assert {one["said"] for one in told["story"]} >= {"$4.6 M", "$100 M", "$15 M", "$500 k"}
    assert told["ratio"]["low"] < told["ratio"]["mid"] < told["ratio"]["high"]
    assert len(told["contradictions"]) >= 5


def test_every_cell_that_is_not_said_is_told_and_widens_the_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    said = "x,pretrain,full,7B,7e9,1T,H100-SXM-80GB,8,bf16,2024,2048".split(",")
    columns = HEAD.strip().split(",")
    left_out = ("n_gpus", "precision", "year", "context")
    rows = [said, *([*said[:at], "", *said[at + 1 :]] for at in map(columns.index, left_out))]
    runs, out = tmp_path / "runs.csv", tmp_path / "out.csv"
    runs.write_text(HEAD + "\n".join(",".join(row) for row in rows))

    asked(capsys, "estimate-cost", "--runs", str(runs), "--out", str(out))

    whole, *others = csv.DictReader(out.read_text().splitlines())
    assert whole["why"] == ""
    assert all("not given" in row["why"] for row in others)
    assert all(_width(row) > _width(whole) for row in others)


def _width(row: dict[str, str]) -> float:
    return float(row["gpu_hours_high"]) / float(row["gpu_hours_low"])


def test_a_run_on_no_chip_is_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs, out = tmp_path / "runs.csv", tmp_path / "out.csv"
    runs.write_text(HEAD + "x,pretrain,,7e9,,1e12,,8,bf16,2024,2048\n")

    asked(capsys, "estimate-cost", "--runs", str(runs), "--out", str(out))

    [row] = csv.DictReader(out.read_text().splitlines())
    assert row["gpu_hours_mid"] == ""
    assert "gpu is not given" in row["why"]


def test_old_prices_are_told_but_not_for_a_year_that_has_passed(
    capsys: pytest.CaptureFixture[str],
):
    words = ("estimate-cost", "--params", "7b", "--gpu", "V100-SXM2-32GB")

    now = asked(capsys, *words)["notes"]
    then = asked(capsys, *words, "--year", "2020")["notes"]

    assert any("renting V100-SXM2-32GB (2022)" in note for note in now)
    assert not any("prices older" in note for note in then)


def test_each_price_of_the_bill_has_a_date_and_a_given_one_has_none(
    capsys: pytest.CaptureFixture[str],
):
    told = asked(capsys, "estimate-cost", "--params", "7b", "--label", "written", "--price", "2")

    bill = {line["name"]: line["source"] for line in told["bill"]}
    assert bill.pop("final run, rented") == "rent: given"
    listed = [bill[name] for name in ("storage", "network", "labelling", "or 16 GPUs bought")]
    assert all(re.search(r"\(20\d\d(-\d\d)?\)", source) for source in listed)


def test_an_api_is_paid_by_the_token_and_owns_no_machines(capsys: pytest.CaptureFixture[str]):
    told = asked(capsys, "estimate-cost", "--model", "llama-3-8b", "--stage", "api")

    names = [line["name"] for line in told["bill"]]
    assert names[0] == "final run, by the token"
    assert not any("GPU" in name or name == "storage" for name in names)


@pytest.mark.parametrize(("tp", "gpus"), [(1, 16), (3, 18), (6, 18)])
def test_the_gpus_that_nobody_says_can_be_cut_as_asked(
    tp: int, gpus: int, capsys: pytest.CaptureFixture[str]
):
    told = asked(capsys, "estimate-cost", "--params", "7b", "--tp", str(tp))

    assert told["gpus"]["mid"] == gpus


def test_a_budget_is_spent_and_not_overspent(capsys: pytest.CaptureFixture[str]):
    small = asked(capsys, "estimate-cost", "--budget", "1000")
    large = asked(capsys, "estimate-cost", "--budget", "1e6", "--days", "30")

    assert small["cost_usd"]["mid"] == pytest.approx(1000, rel=0.05)
    assert large["cost_usd"]["mid"] == pytest.approx(1e6, rel=0.05)
    assert large["inputs"]["parameters"] > small["inputs"]["parameters"]
    assert large["expected_loss"] < small["expected_loss"]
    assert isinstance(large["inputs"]["parameters"], int)
    assert any("`--gpu`" in note for note in large["notes"])


def test_published_runs_stand_beside_the_estimate(capsys: pytest.CaptureFixture[str]):
    words = ("--model", "llama-65b", "--tokens", "1.4e12", "--gpu", "A100", "--gpus", "2048")
    told = asked(capsys, "estimate-cost", *words, "--compare")

    assert told["compared"][0]["name"] == "LLaMA-1 65B"


def test_a_picture_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "cost.png"

    assert main(["estimate-cost", "--params", "7b", "--plot", str(file), "--quiet"]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_finished_model_tells_how_far_off_the_estimate_was(
    tiny_workspace: Workspace, capsys: pytest.CaptureFixture[str]
):
    place = ("--workspace", str(tiny_workspace.root))
    assert main([
        "pretrain", "--layers", "2", "--width", "64", "--context", "64", "--steps", "6",
        "--batch", "4", "--compile", "off", "--name", "timed", "--quiet", *place,
    ]) == 0  # fmt: skip
    capsys.readouterr()

    told = asked(capsys, "estimate-cost", "--from", "timed", *place)

    assert told["measured_seconds"] > 0
    assert told["factor"] == pytest.approx(told["seconds"]["mid"] / told["measured_seconds"])


@pytest.mark.parametrize(("words", "best"), [
    (("--changing-facts",), "retrieval with an API"),
    (("--examples", "20", "--no-production"), "prompting an API"),
    (("--no-own-data",), "prompting an API"),
    (("--examples", "10000", "--queries-per-day", "5000"), "prompting an API"),
    (("--private", "--consistency", "--examples", "10000"), "LoRA on rented GPUs"),
    (("--consistency", "--examples", "10000"), "fine-tuning through an API"),
    (("--private", "--changing-facts"), "retrieval with an open model"),
    (("--private", "--no-own-data"), "prompting an open model"),
])  # fmt: skip
def test_the_decision_follows_from_the_criteria(
    words: tuple[str, ...], best: str, capsys: pytest.CaptureFixture[str]
):
    assert asked(capsys, "decide", *words)["best"] == best


def test_break_even_is_where_the_costs_are_equal(capsys: pytest.CaptureFixture[str]):
    told = asked(capsys, "decide", "--examples", "10000", "--consistency")
    options = {one["name"]: one for one in told["options"]}
    tuned, prompted = options["fine-tuning through an API"], options["prompting an API"]
    queries = tuned["break_even_queries"]

    def total(option: dict[str, Any]) -> float:
        return option["once_usd"]["mid"] + queries * option["per_query_usd"]["mid"]

    assert total(tuned) == pytest.approx(total(prompted))


def test_a_question_is_asked_again_until_it_is_answered():
    told = _converse("n", "maybe", "n", "", "n", "\x04", "n")

    assert told.count("Is the domain specialised?") == 2
    assert "best: prompting an API" in told


def test_a_narrow_terminal_cuts_no_word():
    told = _converse("n", "n", "n", "n", "n", "y")

    assert "facts that change" in told
    plain = re.sub(r"\x1b\[[0-9;]*m", "", told)
    assert max(map(len, plain.splitlines())) <= 60


def _converse(*answers: str) -> str:
    """What `llmctl decide` says on a terminal to somebody who types these lines."""
    terminal, far_end = pty.openpty()
    words = [sys.executable, "-m", "llmctl", "decide"]
    narrow = os.environ | {"COLUMNS": "60", "TERM": "xterm"}
    with subprocess.Popen(
        words, stdin=far_end, stdout=far_end, stderr=far_end, env=narrow
    ) as command:
        os.close(far_end)
        told = ""
        with contextlib.suppress(OSError):  # so a terminal tells that the other side is gone
            for answer in answers:
                while not told.endswith("] "):
                    told += os.read(terminal, 1024).decode()
                os.write(terminal, f"{answer}\n".replace("\x04\n", "\x04").encode())
                told += " "
            while more := os.read(terminal, 1024):
                told += more.decode()
        os.close(terminal)
    assert command.returncode == 0
    return told
