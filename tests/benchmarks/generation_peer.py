"""litgpt's own `generate` over random weights, for `generation_speed.py`: tokens a second.

Runs in the peers' environment and imports nothing of llmctl.
"""

import json
import statistics
import sys
import time

import torch
from litgpt import GPT, Config
from litgpt.generate.base import generate


def main() -> None:
    """Write on a few times and print the median rate."""
    job = json.loads(sys.argv[1])
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if job["precision"] == "bf16" else torch.float32)
    config = Config(
        block_size=job["context"],
        vocab_size=job["vocab"],
        padded_vocab_size=job["vocab"],
        n_layer=job["layers"],
        n_head=job["heads"],
        n_embd=job["width"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="LayerNorm",
        mlp_class_name="GptNeoxMLP",
        intermediate_size=4 * job["width"],
    )
    model = GPT(config).eval()
    whole = job["prompt"] + job["new"]
    model.max_seq_length = whole
    model.set_kv_cache(batch_size=1)
    rates: list[float] = []
    for _ in range(job["warm"] + job["timed"]):
        prompt = torch.randint(job["vocab"], (job["prompt"],))
        began = time.perf_counter()
        written = generate(model, prompt, whole, top_k=job["top_k"], include_prompt=False)
        rates.append(len(written) / (time.perf_counter() - began))
    print(statistics.median(rates[job["warm"] :]))


if __name__ == "__main__":
    main()
