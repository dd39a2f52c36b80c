"""A model computed in two ways that must agree -> how far apart they are, and whether that is fine.

Each check takes what it tests, so that a broken part can be handed in and is found. Differences
are relative to the largest number compared; all is computed in float32.
    B batch, T time, V vocabulary
"""

import functools
import itertools
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from llmctl.data.tokenizer_training import byte_tokenizer
from llmctl.errors import LlmctlError
from llmctl.infer.engine import Engine
from llmctl.infer.sampling import Sampling
from llmctl.model.cache import KVCache
from llmctl.model.checkpoint import load_model, save_model
from llmctl.model.device import one_thread
from llmctl.model.transformer import Transformer
from llmctl.train.checkpoint import Checkpoints, ModelForm, read_saved, restore
from llmctl.train.distributed.launch import Launch, supervise
from llmctl.train.objectives import Objective, next_token
from llmctl.train.trainer import Trainer
from llmctl.train.twins import CONTEXT, PATIENCE, ROWS, Drawn, tiny_model, tiny_trainer, trained

EPSILON = torch.finfo(torch.float32).eps
# Sums of n numbers in another order differ by about sqrt(n) roundings, and no sum here has more
# than 512 addends (8 rows of 64 tokens): 23 in each of two layers, forward and backward, is 92.
# A part that is wrong is wrong by a hundredth and more.
ROUNDINGS = 128
ROUNDED = "float32, another order of sums: 128 roundings"
# AdamW divides a gradient by its own size: what roundings do to one that is nearly nothing moves
# a weight by up to the rate of 0.01. Measured: 3.5e-5; a rank that is left out: above 0.1.
STEPPED = "float32, carried on by 4 steps of AdamW at a rate of 0.01"
EXACT = "the same operations in the same order: the same bits"
PROMPTS = ("The", "Once upon a time there was", "A dog", "It is said of old that many")
Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Two ways of one computation, and how far apart they came out."""

    name: str
    difference: float
    tolerance: float
    why: str
    fault: str = ""

    @property
    def holds(self) -> bool:
        """Whether they agree; what is not a number agrees with nothing."""
        return not self.fault and self.difference <= self.tolerance


def checks(device: torch.device) -> Iterator[tuple[str, Callable[[], Check]]]:
    """All checks, by name, to be run one after the other."""
    model = functools.partial(tiny_model, device)
    yield "accumulation = whole batch", lambda: accumulation(model())
    yield "packed = unpacked", lambda: packing(model())
    yield "KV cache = no cache", lambda: caching(model())
    yield "batched = single", lambda: batching(model())
    yield "saved = never saved", lambda: saving(lambda: tiny_trainer(model()))
    yield "1 = 2 processes", processes
    yield "1 = 2 processes, deterministic", exact_processes


def accumulation(model: Transformer, *, objective: Objective = next_token) -> Check:
    """The gradients of a batch at once, and of its rows one after the other."""

    def gradients(micro_rows: int) -> list[Tensor]:
        trainer = tiny_trainer(model, micro_rows=micro_rows, objective=objective)
        return [
            one.clone()
            for one in trainer.accumulate(trainer.feed.cut(Drawn().batch(0), trainer.micro_rows))[0]
        ]

    return _rounded("accumulation = whole batch", gradients(1), gradients(ROWS))


@torch.inference_mode()
def packing(model: Transformer) -> Check:
    """The logits of documents that share a row, and of each in a row of its own."""
    device = model.embedding.weight.device
    ids_BT = Drawn().batch(0).inputs_BT[:1].to(device)
    ends = (0, CONTEXT // 4, CONTEXT // 2 + 3, CONTEXT)
    documents = [ids_BT[:, first:last] for first, last in itertools.pairwise(ends)]
    lengths = torch.tensor([one.shape[1] for one in documents])
    segments_BT = torch.arange(len(documents)).repeat_interleave(lengths)[None].to(device)
    packed = model(ids_BT, segments_BT=segments_BT)
    alone = torch.cat([model(one) for one in documents], dim=1)
    return _rounded("packed = unpacked", [packed], [alone])


@torch.inference_mode()
def caching(model: Transformer) -> Check:
    """The logits of a row read at once, and of one read in pieces with a cache."""
    ids_BT = Drawn().batch(0).inputs_BT.to(model.embedding.weight.device)
    cache = KVCache(model.shape, ROWS, CONTEXT, model.embedding.weight)
    pieces = [ids_BT[:, :20], ids_BT[:, 20:40], *ids_BT[:, 40:].split(1, dim=1)]
    found = torch.cat([model(piece, cache=cache) for piece in pieces], dim=1)
    return _rounded("KV cache = no cache", [found], [model(ids_BT)])


def batching(model: Transformer) -> Check:
    """Probabilities, likelihoods and texts of prompts in one batch, and of each alone."""
    tokenizer = byte_tokenizer()
    together, alone = (Engine(model, tokenizer, rows=rows) for rows in (len(PROMPTS), 1))
    name = "batched = single"
    sampling = Sampling(max_tokens=8, temperature=0.0)
    texts = [[one.text for one in engine.generate(PROMPTS, sampling)] for engine in
             (together, alone)]  # fmt: skip
    numbers = [_numbers(engine) for engine in (together, alone)]
    check = _rounded(name, numbers[0], numbers[1])
    if texts[0] == texts[1] or not check.holds:
        return check
    # Ties aside, what is written follows from numbers that agree.
    return _failed(name, "the texts differ where their probabilities do not")


def _numbers(engine: Engine) -> list[Tensor]:
    """All probabilities of next tokens by id, and log-likelihoods, of the prompts."""
    tables = engine.next_tokens(PROMPTS, engine.model.shape.vocab_size)
    shares = [[one.probability for one in sorted(row)] for row in tables]
    scores = engine.log_likelihoods([(prompt, " end") for prompt in PROMPTS])
    return [torch.tensor(shares), torch.tensor([one.nats for one in scores])]


def saving(
    begin: Callable[[], Trainer], *, form: Callable[[Trainer], ModelForm] | None = None
) -> Check:
    """The weights of a run that went on from its checkpoint, and of one that never stopped."""
    whole, half, resumed = begin(), begin(), begin()
    for trainer in (whole, whole, half):
        trainer.step()
    with tempfile.TemporaryDirectory(prefix="llmctl-doctor-") as folder:
        checkpoints = Checkpoints(Path(folder), keep=1)
        keep = form or model_form
        checkpoints.save(half, keep(half), {}, pinned=())
        checkpoints.wait()
        restore(resumed, read_saved(checkpoints.path(1)), keep(resumed))
    resumed.step()
    return _compared(
        "saved = never saved", _weights(resumed), _weights(whole), tolerance=0.0, why=EXACT
    )


def model_form(trainer: Trainer) -> ModelForm:
    """A model kept as a folder, as pretraining keeps it."""
    model = trainer.model
    return ModelForm(
        state=lambda: trainer.masters.full_state(model),
        write=lambda state, path: save_model(state, model.shape, path),
        read=lambda path: dict(load_model(path).state_dict()),
    )


def processes(arguments: Sequence[str] = ("-m", "llmctl.train.twins")) -> Check:
    """The weights that two processes train over gloo, and those of one."""
    name = "1 = 2 processes"
    both = _of_two(tuple(arguments))
    if isinstance(both, str):
        return _failed(name, both)
    one = trained(pairwise=False)
    return _compared(name, _sorted(both["fast"]), _sorted(one), tolerance=1e-3, why=STEPPED)


def exact_processes(arguments: Sequence[str] = ("-m", "llmctl.train.twins")) -> Check:
    """The same, added up in pairs as `--deterministic` does."""
    name = "1 = 2 processes, deterministic"
    both = _of_two(tuple(arguments))
    if isinstance(both, str):
        return _failed(name, both)
    with one_thread():
        one = trained(pairwise=True)
    return _compared(name, _sorted(both["pairwise"]), _sorted(one), tolerance=0.0, why=EXACT)


@functools.lru_cache(maxsize=4)
def _of_two(arguments: tuple[str, ...]) -> dict[str, Weights] | str:
    """What two processes of a program trained, or why they did not."""
    with tempfile.TemporaryDirectory(prefix="llmctl-doctor-") as name:
        folder = Path(name)
        spec = folder / "spec.json"
        spec.write_text(json.dumps({"folder": name}), encoding="utf-8")
        launch = Launch(
            arguments=lambda _: [*arguments, str(spec)],
            processes=2,
            patience=PATIENCE,
            max_restarts=0,
        )
        try:
            supervise(launch, on_restart=lambda _: None)
        except LlmctlError as error:
            return error.message
        return {kind: load_file(folder / f"{kind}.safetensors") for kind in ("pairwise", "fast")}


def _weights(trainer: Trainer) -> list[Tensor]:
    return _sorted(trainer.model.state_dict())


def _sorted(weights: Weights) -> list[Tensor]:
    return [weights[name] for name in sorted(weights)]


def _rounded(name: str, found: Sequence[Tensor], right: Sequence[Tensor]) -> Check:
    return _compared(name, found, right, tolerance=ROUNDINGS * EPSILON, why=ROUNDED)


def _compared(
    name: str, found: Sequence[Tensor], right: Sequence[Tensor], *, tolerance: float, why: str
) -> Check:
    """The largest difference in any tensor, each relative to its own largest number."""
    apart = 0.0
    for mine, theirs in zip(found, right, strict=True):
        scale = float(theirs.abs().max()) or 1.0
        distance = float((mine.cpu() - theirs.cpu()).abs().max()) / scale
        # No maximum tells of what is not a number.
        apart = max(apart, distance if math.isfinite(distance) else math.inf)
    return Check(name=name, difference=apart, tolerance=tolerance, why=why)


def _failed(name: str, fault: str) -> Check:
    return Check(name=name, difference=float("nan"), tolerance=0.0, why="", fault=fault)
