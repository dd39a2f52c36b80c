import re
from collections.abc import Callable
from pathlib import Path

from llmctl.evals.model_report import Portrait, write_model_report
from llmctl.report import Tree

GOODPUT = {
    "share": 0.75,
    "attempts": 2,
    "seconds": {"training": 90.0, "start-up": 10.0, "trained twice": 20.0, "down": 0.0},
}


def test_a_report_says_where_the_time_went(random_base: Callable[[str], Path]) -> None:
    folder = random_base("qwen3")
    steps = [{"step": step, "loss": 3.0 - step, "learning_rate": 0.1} for step in (1, 2)]
    portrait = Portrait(
        title="models/base",
        summary="",
        facts={"goodput": GOODPUT},
        config={},
        metrics=steps,
        lineage=Tree("models/base"),
        prompts=["The"],
    )

    write_model_report(folder, portrait, device="cpu")

    page = (folder / "report.html").read_text(encoding="utf-8")
    section = page.split("<h2>Where the time went</h2>")[1].split("</section>")[0]
    assert "75.0% of all time was spent on steps that count, in 2 attempts" in section
    rows = re.findall(r"<td[^>]*>(.*?)</td>", section)
    assert rows[:3] == ["training", "1 min 30 s", "75.0 %"]
    assert rows[-3:] == ["down", "0.0 s", "0.0 %"]
