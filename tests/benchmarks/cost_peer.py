"""Runs as JSON lines -> GPU-hours by llm-analysis, a JSON line each; for `cost_score.py`.

    python -m venv peer && peer/bin/pip install llm-analysis==0.2.2
    python tests/benchmarks/cost_score.py --data DATA --llm-analysis peer/bin/python

Run by the peer's Python, and imports nothing of ours. ZeRO-3 over all GPUs, a sequence a GPU, its
own bandwidths; the share of the peak is what it asks its user for.
"""

import contextlib
import json
import sys

from llm_analysis import analysis, config


def hours(run):
    """The GPU-hours of a run."""
    model = config.ModelConfig(
        name="run", num_layers=run["layers"], n_head=run["heads"], hidden_dim=run["width"],
        vocab_size=run["vocabulary"], max_seq_len=run["context"], ffn_embed_dim=run["mlp_width"],
    )  # fmt: skip
    chip = config.get_gpu_config_by_name(run["gpu"])
    layout = config.ParallelismConfig(dp_size=run["gpus"])
    found = analysis.LLMAnalysis(
        model, chip, parallelism_config=layout, flops_efficiency=run["efficiency"]
    ).training(
        batch_size_per_gpu=1,
        seq_len=run["context"],
        total_num_tokens=run["tokens"],
        ds_zero=analysis.DSZeRO(3),
    )
    return found["gpu_hours"]


for line in sys.stdin:
    run = json.loads(line)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            told = hours(run)
        except (AssertionError, ValueError, ZeroDivisionError) as error:
            print(run["name"], error)
            told = None
    print(json.dumps({"name": run["name"], "hours": told}))
