"""One peer's fine-tuning, for `tuning_speed.py`: prints its mean seconds and tokens of a step.

Runs in the peers' environment and imports nothing of llmctl. Peers get what makes them fast:
bfloat16 by autocast, no dropout, no recomputed activations, no saving.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers

NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}


class Clock(transformers.TrainerCallback):
    """The seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step begins."""
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """It ended, with new weights."""
        self.seconds.append(time.perf_counter() - self._began)


class Counting:
    """A collator that notes how many tokens of texts each batch holds."""

    def __init__(self, pad_id: int, width: int | None) -> None:
        self.pad_id = pad_id
        self.width = width
        self.tokens: list[int] = []

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad to the longest, or to a width."""
        lengths = [len(row["input_ids"]) for row in rows]
        width = self.width or max(lengths)
        batch = {
            "input_ids": padded([row["input_ids"] for row in rows], width, self.pad_id),
            "attention_mask": padded([[1] * length for length in lengths], width, 0),
        }
        is_next_token = isinstance(rows[0]["labels"], list)
        # Nothing comes after the last token of a conversation.
        self.tokens.append(sum(lengths) - len(rows) * is_next_token)
        if is_next_token:
            return batch | {"labels": padded([row["labels"] for row in rows], width, -100)}
        return batch | {"labels": torch.tensor([row["labels"] for row in rows])}


def padded(rows: list[list[int]], width: int, filler: int) -> torch.Tensor:
    """Rows as a rectangle."""
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


def main() -> None:
    """Train the peer that the job names for so many steps."""
    job = json.loads(sys.argv[1])
    transformers.utils.logging.disable_progress_bar()
    texts = json.loads((Path(job["out"]) / "texts.json").read_text(encoding="utf-8"))
    clock = Clock()
    width = job["context"] if job["peer"] == "trainer" else None
    counting = Counting(texts["pad_id"], width)
    with tempfile.TemporaryDirectory() as place:
        settings = {
            "output_dir": place,
            "per_device_train_batch_size": job["rows"],
            "max_steps": job["steps"] + job["warm"],
            "learning_rate": 5e-5,
            "use_cpu": True,
            "bf16": job["bf16"],
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "remove_unused_columns": False,
            "dataloader_pin_memory": False,
        }
        make = sft if job["peer"] == "sft" else trainer
        made = make(job, texts, settings, counting)
        made.add_callback(clock)
        made.train()
    # The loader reads ahead of the last step.
    steps = slice(job["warm"], job["warm"] + job["steps"])
    print(
        json.dumps(
            {"seconds": fmean(clock.seconds[steps]), "tokens": fmean(counting.tokens[steps])}
        )
    )


def trainer(job: dict[str, Any], texts: Any, settings: dict[str, Any], counting: Counting) -> Any:
    """Transformers' Trainer over labelled texts."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        Path(job["out"]) / "base",
        num_labels=2,
        pad_token_id=texts["pad_id"],
        dtype=torch.float32,
        **NO_DROPOUT,
    )
    rows = [{"input_ids": one["ids"], "labels": one["label"]} for one in texts["classes"]]
    return transformers.Trainer(
        model,
        transformers.TrainingArguments(**settings),
        data_collator=counting,
        train_dataset=rows,
    )


def sft(job: dict[str, Any], texts: Any, settings: dict[str, Any], counting: Counting) -> Any:
    """TRL's SFTTrainer over conversations, of which the answers are trained."""
    import datasets  # noqa: PLC0415
    import trl  # noqa: PLC0415

    base = Path(job["out"]) / "base"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, **NO_DROPOUT
    )
    rows = [
        {
            "input_ids": one["ids"],
            "labels": [
                token if is_trained else -100
                for token, is_trained in zip(one["ids"], one["trained"], strict=True)
            ],
        }
        for one in texts["answers"]
    ]
    return trl.SFTTrainer(
        model,
        args=trl.SFTConfig(
            **settings,
            max_length=None,
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        data_collator=counting,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(base),
    )


if __name__ == "__main__":
    main()
