"""One peer's pretraining on a GPU, for `gpu_speed.py`: prints tokens a second and gigabytes.

Runs in the peers' environment and imports nothing of llmctl. Each peer gets what makes it fast:
litgpt its compiled Llama, bfloat16 and fused AdamW, as its own `pretrain` does; transformers'
Trainer Liger's kernels, bfloat16 and fused AdamW. All rows are taken at once: no accumulation.
"""

import json
import statistics
import sys
import tempfile
import time
from typing import Any

import torch
from torch import Tensor


def main() -> None:
    """Train the peer that the job names for so many steps."""
    job = json.loads(sys.argv[1])
    torch.manual_seed(0)
    seconds = PEERS[job["peer"]](job)[job["warm"] :]
    gigabytes = torch.cuda.max_memory_allocated() / 1e9 if job["device"] == "cuda" else 0.0
    rate = job["rows"] * job["context"] / statistics.median(seconds)
    print(json.dumps({"tokens_per_second": rate, "gigabytes": gigabytes}))


def drawn(job: dict[str, Any], rows: int) -> Tensor:
    """Random tokens, one more than a row is long."""
    return torch.randint(job["vocabulary"], (rows, job["context"] + 1))


def litgpt(job: dict[str, Any]) -> list[float]:
    """litgpt's Llama with its cross-entropy, in a loop of its own kind."""
    from litgpt import GPT, Config  # noqa: PLC0415
    from litgpt.utils import chunked_cross_entropy  # noqa: PLC0415

    config = Config(
        block_size=job["context"],
        padded_vocab_size=job["vocabulary"],
        vocab_size=job["vocabulary"],
        n_layer=job["layers"],
        n_head=job["heads"],
        n_embd=job["width"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=job["mlp"],
    )
    device = torch.device(job["device"])
    with device:
        model: Any = GPT(config)
    if job["tied"]:
        model.lm_head.weight = model.transformer.wte.weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1, fused=True)
    model = torch.compile(model)
    taken: list[float] = []
    for _ in range(job["warm"] + job["steps"]):
        began = time.perf_counter()
        ids = drawn(job, job["rows"]).to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(ids[:, :-1].contiguous())
        loss = chunked_cross_entropy(logits, ids[:, 1:].contiguous(), chunk_size=0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        taken.append(time.perf_counter() - began)
    return taken


def trainer(job: dict[str, Any]) -> list[float]:
    """Transformers' Trainer over its own Llama, on a GPU with Liger's kernels."""
    import transformers  # noqa: PLC0415

    is_gpu = job["device"] == "cuda"
    config = transformers.LlamaConfig(
        vocab_size=job["vocabulary"],
        hidden_size=job["width"],
        num_hidden_layers=job["layers"],
        num_attention_heads=job["heads"],
        intermediate_size=job["mlp"],
        max_position_embeddings=job["context"],
        tie_word_embeddings=job["tied"],
        use_cache=False,
    )
    steps = job["warm"] + job["steps"]
    rows = [{"input_ids": row[:-1], "labels": row[:-1]} for row in drawn(job, job["rows"] * steps)]
    taken: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            taken.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if is_gpu:
                torch.cuda.synchronize()
            taken[-1] = time.perf_counter() - taken[-1]

    with tempfile.TemporaryDirectory() as place:
        settings = transformers.TrainingArguments(
            output_dir=place,
            per_device_train_batch_size=job["rows"],
            max_steps=steps,
            learning_rate=3e-4,
            weight_decay=0.1,
            bf16=True,
            optim="adamw_torch_fused",
            use_liger_kernel=is_gpu,
            use_cpu=not is_gpu,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=is_gpu,
        )
        model = transformers.LlamaForCausalLM(config)
        made = transformers.Trainer(model, settings, train_dataset=rows, callbacks=[Clock()])
        made.train()
    return taken


PEERS = {"litgpt": litgpt, "trainer": trainer}

if __name__ == "__main__":
    main()
