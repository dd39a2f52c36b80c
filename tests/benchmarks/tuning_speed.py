"""Fine-tuning of a 124M model, seconds a step and tokens a second, beside Hugging Face's trainers.

    python tests/benchmarks/tuning_speed.py --data ../shared/data --out build/bench/tuning

Every trainer gets the same folder (GPT-2 small's shape, random weights, a vocabulary of 50257), the
same ids of the SMS spam messages and AdamW. Classes: `llmctl` with length buckets, `llmctl head`
above states that were computed once, and transformers' Trainer, padded to the context
and to the longest of a batch. Answers: `llmctl` in packed rows and TRL's SFTTrainer, which pads to
the longest; tokens are those of the messages, without padding. What a step is: from batch to new
weights, the mean over all timed ones, in a process of its own.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from llmctl.data.labeled.classes import read_classes
from llmctl.data.labeled.conversations import ASSISTANT, USER, Conversation, Message
from llmctl.data.template import ChatTemplate, check_rendering
from llmctl.data.tokenizer import Tokenizer
from llmctl.data.tokenizer_training import train_bpe
from llmctl.evals.classification import macro_f1_error, score
from llmctl.model.checkpoint import save_model
from llmctl.model.device import pick_dtype
from llmctl.model.low_rank import AdapterSettings
from llmctl.model.transformer import fresh
from llmctl.shapes import named_shape
from llmctl.train.classifying import Classifying, Lesson
from llmctl.train.instructing import Course, Instructing
from llmctl.train.machine import find_machine
from llmctl.train.tuning import Dose, Tuning

ROWS, CONTEXT, VOCABULARY, WARM_STEPS = 8, 128, 50257, 2
OURS = ("full", "head", "instruct")
PEERS = ("trainer", "trainer-dynamic", "sft")
DOSE = Dose(epochs=1, rate=5e-5, head_rate=1e-4)


def main() -> None:
    """Prepare what is not there yet, measure each trainer in a process, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable, help="of the peers' environment")
    parser.add_argument("--only", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--texts", type=int, default=480, help="of which batches are drawn")
    parser.add_argument("--precision", choices=("auto", "bf16", "float32"), default="auto")
    parser.add_argument("--measure", choices=OURS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(given)))
        return
    prepare(given)
    print(f"{'trainer':16} {'s/step':>8} {'tokens/s':>9}  beside")
    for name in given.only.split(","):
        found = timed(name, given)
        print(f"{name:16} {found['seconds']:8.3f} {found['tokens'] / found['seconds']:9,.0f}  "
              f"{found.get('beside', '')}", flush=True)  # fmt: skip


def prepare(given: argparse.Namespace) -> None:
    """The base model, and the messages as ids, for who knows nothing of llmctl."""
    base = given.out / "base"
    found = read_classes(given.data / "spam" / "sms_spam.tsv")
    examples = random.Random(0).sample(found.splits["train"], given.texts)
    if not (base / "model.safetensors").exists():
        base.mkdir(parents=True, exist_ok=True)
        tokenizer = train_bpe([one.text for one in found.splits["train"]], vocab_size=8192)
        shape = named_shape("small", vocab_size=VOCABULARY, family="gpt2", context=CONTEXT)
        save_model(fresh(shape, 0).state_dict(), shape, base)
        tokenizer.save(base)
    tokenizer = Tokenizer.load(base)
    labelled = [
        {"ids": tokenizer.encode_prompt(one.text)[:CONTEXT], "text": one.text, "label": one.label}
        for one in examples
    ]
    talks = conversations([one.text for one in examples])
    rendered = check_rendering(ChatTemplate(tokenizer), talks)
    answers = [
        {"ids": one.ids, "trained": one.trained} for one in rendered if len(one.ids) <= CONTEXT
    ]
    told = {"classes": labelled, "answers": answers, "pad_id": tokenizer.pad_id}
    (given.out / "texts.json").write_text(json.dumps(told), encoding="utf-8")


def conversations(texts: list[str]) -> list[Conversation]:
    """Messages as answers to a question."""
    asked = Message(USER, "Write me a short message, as one sends it from a telephone.")
    return [
        Conversation(f"sms:{number}", (asked, Message(ASSISTANT, text)))
        for number, text in enumerate(texts)
    ]


def timed(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """What a process that measures one trainer says."""
    if name in OURS:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", name]
    else:
        job = {"peer": name, "out": str(given.out), "steps": given.steps, "rows": ROWS}
        job |= {"context": CONTEXT, "warm": WARM_STEPS, "bf16": takes_bfloat16(given.precision)}
        worker = Path(__file__).with_name("tuning_peer.py")
        command = [given.python, str(worker), json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def takes_bfloat16(precision: Any) -> bool:
    """Whether that is what makes the peers fast here, or what was asked for."""
    return pick_dtype(torch.device("cpu"), precision) == torch.bfloat16


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds and tokens of a step of ours."""
    machine = find_machine("cpu", given.precision, width=768)
    texts = json.loads((given.out / "texts.json").read_text(encoding="utf-8"))["classes"]
    began = time.perf_counter()
    if given.measure == "instruct":
        tuning = answering(given.out / "base", [one["text"] for one in texts], machine)
    else:
        tuning = classifying(given.out / "base", texts, given.measure, machine)
    ready = time.perf_counter() - began
    seconds, tokens = [], []
    for step in range(WARM_STEPS + given.steps):
        batch = tuning.batches.batch(step)
        facts = tuning.trainer.step()
        seconds.append(facts.seconds)
        tokens.append(real_tokens(batch))
    return {
        "seconds": fmean(seconds[WARM_STEPS:]),
        "tokens": fmean(tokens[WARM_STEPS:]),
        "beside": f"{machine.type_name}, ready in {ready:.1f} s",
    }


def classifying(base: Path, texts: list[dict[str, Any]], method: Any, machine: Any) -> Tuning:
    """`finetune classify`, up to its first step."""
    examples = [argparse.Namespace(text=one["text"], label=one["label"]) for one in texts]
    lesson = Lesson(
        base=base,
        classes=("ham", "spam"),
        train=examples,
        validation=examples[:8],
        method=method,
        dose=DOSE,
        rows=ROWS,
        is_balanced=False,
        noise=0.0,
        adapters=AdapterSettings(),
        seed=0,
        judge=score,
        doubt=macro_f1_error,
    )
    return Classifying(lesson, machine).tuning


def answering(base: Path, texts: list[str], machine: Any) -> Tuning:
    """`finetune instruct`, up to its first step."""
    talks = conversations(texts)
    course = Course(
        base=base,
        train=talks,
        validation=talks[:8],
        method="full",
        dose=DOSE,
        rows=ROWS,
        context=CONTEXT,
        adapters=AdapterSettings(),
        seed=0,
    )
    return Instructing(course, machine).tuning


def real_tokens(batch: Any) -> int:
    """Tokens of texts in a batch, without its padding."""
    if hasattr(batch, "lengths_B"):
        return int(batch.lengths_B.sum())
    if batch.segments_BT is None:
        return batch.tokens
    return int((batch.segments_BT != batch.segments_BT.max()).sum())


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
