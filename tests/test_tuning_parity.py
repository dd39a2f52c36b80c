"""Instruction tuning step by step beside TRL's SFTTrainer: the same losses from the same data."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llmctl.data.labeled.conversations import ASSISTANT, SYSTEM, USER, Conversation, Message
from llmctl.model.low_rank import AdapterSettings
from llmctl.train.instructing import Course, Instructing
from llmctl.train.machine import Machine
from llmctl.train.tuning import Dose

pytestmark = [
    pytest.mark.parity,
    pytest.mark.slow,
    # What libraries that TRL pulls in say of each other.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
ROWS, STEPS, EPOCHS = 4, 50, 5
DROPOUTS = ("attn_pdrop", "embd_pdrop", "resid_pdrop")
WORDS = "river stone bread candle window quiet seven orange ladder winter paper north".split()


def conversations(count: int) -> tuple[Conversation, ...]:
    """Talks of one or two turns, of many lengths, some under a system prompt."""
    draw = random.Random(3)
    found: list[Conversation] = []
    for number in range(count):
        messages = [Message(SYSTEM, "Answer in words.")] if number % 3 == 0 else []
        for _ in range(1 + number % 2):
            asked, told = (draw.choices(WORDS, k=draw.randint(1, 5)) for _ in range(2))
            messages += [Message(USER, " ".join(asked)), Message(ASSISTANT, " ".join(told))]
        found.append(Conversation(f"talk:{number}", tuple(messages)))
    return tuple(found)


def ours(base: Path, directory: Path) -> tuple[Instructing, list[float]]:
    """The run here, and the loss of each of its steps."""
    talks = conversations(ROWS * STEPS // EPOCHS)
    course = Course(
        base=base,
        train=talks,
        validation=talks[:4],
        method="full",
        dose=Dose(epochs=EPOCHS, rate=3e-3, head_rate=3e-3, weight_decay=0.1, patience=99),
        rows=ROWS,
        context=512,
        adapters=AdapterSettings(),
        seed=0,
        is_packed=False,
    )
    training = Instructing(course, Machine(torch.device("cpu"), torch.float32, 1e9))
    directory.mkdir()
    run = training.start(directory)
    run.train()
    return training, [row["loss"] for row in run.journal.rows() if "loss" in row]


def labelled(tokenizer: Any, talk: Conversation) -> dict[str, list[int]]:
    """A talk as TRL takes it: ids by transformers, and labels on what the assistant said."""
    messages = [{"role": one.role, "content": one.content} for one in talk.messages]
    ids = tokenizer.apply_chat_template(messages, return_dict=False)
    labels = [-100] * len(ids)
    for place, one in enumerate(talk.messages):
        if one.role == ASSISTANT:
            before = tokenizer.apply_chat_template(
                messages[:place], add_generation_prompt=True, return_dict=False
            )
            words = tokenizer.encode(one.content, add_special_tokens=False)
            answer = [*words, tokenizer.convert_tokens_to_ids("<|im_end|>")]
            labels[len(before) : len(before) + len(answer)] = answer
    return {"input_ids": ids, "labels": labels}


def in_our_order(training: Instructing, examples: list[dict[str, list[int]]]) -> list[Any]:
    """The examples as our run read them, step by step."""
    by_ids = {tuple(one["input_ids"][:-1]): one for one in examples}
    order: list[Any] = []
    for step in range(STEPS):
        for row in training.tuning.batches.batch(step).inputs_BT.tolist():
            while tuple(row) not in by_ids:
                row.pop()
            order.append(by_ids[tuple(row)])
    return order


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_fifty_steps_have_the_losses_of_trl(
    random_base: Callable[[str], Path], family: str, tmp_path: Path
) -> None:
    trl, transformers = pytest.importorskip("trl"), pytest.importorskip("transformers")
    datasets = pytest.importorskip("datasets")
    base = random_base(family)
    training, losses = ours(base, tmp_path / "ours")
    (tmp_path / "tokenizer").mkdir()
    training.template.tokenizer.save(tmp_path / "tokenizer")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, **dict.fromkeys(DROPOUTS, 0.0) if family == "gpt2" else {}
    )
    rows = in_our_order(training, [labelled(theirs, one) for one in training.course.train])
    plan = training.tuning.trainer.plan
    decayed = [one for one in model.parameters() if one.ndim > 1]
    plain = [one for one in model.parameters() if one.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=3e-3,
        betas=(0.9, 0.98),
        eps=1e-10,
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: plan.schedule.factor(at, STEPS))

    trainer = trl.SFTTrainer(
        model,
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "theirs"),
            per_device_train_batch_size=ROWS,
            max_steps=STEPS,
            max_grad_norm=plan.clip,
            max_length=None,
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=True,
            bf16=False,
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=theirs,
        optimizers=(optimizer, rates),
    )
    trainer.train()

    wanted = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == len(wanted) == STEPS
    assert losses[-1] < 0.7 * losses[0]
    assert losses == pytest.approx(wanted, abs=1e-3)
