"""One peer's training loop, for `train_speed.py`: prints its median tokens a second.

Runs in the peers' environment and imports nothing of llmctl.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

WARM_STEPS = 2


def main() -> None:
    """Train the peer that the job names for so many steps."""
    job = json.loads(sys.argv[1])
    data = Path(job["data"])
    vocab = json.loads((data / "meta.json").read_text())["vocab_size"]
    ids = np.memmap(data / "train.bin", dtype=np.uint16, mode="r")
    torch.manual_seed(0)
    is_mixed = job["precision"] == "bf16"
    loss_of, parameters, optimizer = PEERS[job["peer"]](job, vocab)
    rows, context, rates = job["batch"], job["context"], []
    for step in range(job["steps"] + WARM_STEPS):
        began = time.perf_counter()
        starts = torch.randint(len(ids) - context - 1, (rows,)).tolist()
        window = np.stack([ids[start : start + context + 1] for start in starts]).astype(np.int64)
        inputs, targets = torch.from_numpy(window[:, :-1]), torch.from_numpy(window[:, 1:])
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            loss = loss_of(inputs.contiguous(), targets.contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        if step >= WARM_STEPS:
            rates.append(rows * context / (time.perf_counter() - began))
    print(statistics.median(rates))


Peer = tuple[Callable[[Tensor, Tensor], Tensor], list[Tensor], Any]


def nanogpt(job: dict[str, Any], vocab: int) -> Peer:
    """The model, loss and optimizer of nanoGPT's own file."""
    sys.path.insert(0, job["nanogpt"])
    from model import GPT, GPTConfig  # noqa: PLC0415

    shape = {"n_layer": job["layers"], "n_head": job["heads"], "n_embd": job["width"]}
    config = GPTConfig(
        block_size=job["context"], vocab_size=vocab, dropout=0.0, bias=False, **shape
    )
    model = GPT(config)
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    if job["compile"] == "on":
        model = torch.compile(model)
    return lambda x, y: model(x, y)[1], list(model.parameters()), optimizer


def litgpt(job: dict[str, Any], vocab: int) -> Peer:
    """A litgpt model with its chunked cross-entropy."""
    from litgpt import GPT, Config  # noqa: PLC0415
    from litgpt.utils import chunked_cross_entropy  # noqa: PLC0415

    config = Config(
        block_size=job["context"],
        vocab_size=vocab,
        padded_vocab_size=vocab,
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
    model = GPT(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    if job["compile"] == "on":
        model = torch.compile(model)
    return (
        lambda x, y: chunked_cross_entropy(model(x), y, chunk_size=0),
        list(model.parameters()),
        optimizer,
    )


def hfllama(job: dict[str, Any], vocab: int) -> Peer:
    """Transformers' Llama, with the loss that it computes itself."""
    import transformers  # noqa: PLC0415

    config = transformers.LlamaConfig(
        vocab_size=vocab,
        hidden_size=job["width"],
        num_hidden_layers=job["layers"],
        num_attention_heads=job["heads"],
        intermediate_size=int(8 * job["width"] / 3 / 64) * 64,
        max_position_embeddings=job["context"],
        use_cache=False,
    )
    return _transformers(transformers.LlamaForCausalLM(config))


def hfgpt2(job: dict[str, Any], vocab: int) -> Peer:
    """Transformers' GPT-2, without dropout."""
    import transformers  # noqa: PLC0415

    config = transformers.GPT2Config(
        vocab_size=vocab,
        n_positions=job["context"],
        n_embd=job["width"],
        n_layer=job["layers"],
        n_head=job["heads"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    return _transformers(transformers.GPT2LMHeadModel(config))


def _transformers(model: Any) -> Peer:
    # The shift of labels is the model's own, so inputs are given twice.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    return (
        lambda x, _: model(input_ids=x, labels=x).loss,
        list(model.parameters()),
        optimizer,
    )


PEERS = {"nanogpt": nanogpt, "litgpt": litgpt, "hfllama": hfllama, "hfgpt2": hfgpt2}

if __name__ == "__main__":
    main()
