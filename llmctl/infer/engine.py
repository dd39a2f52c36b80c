"""A model and its tokenizer -> texts written on, tokens expected next, likelihoods of texts.

Prompts of any number and length are worked on in batches: rows stand flush right, finished ones
leave, and what one row gets does not depend on the others. Text in and out, files only in `open`.

    B batch, T time, D width, V vocabulary
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from llmctl.data.labeled.conversations import Message
from llmctl.data.template import ChatTemplate
from llmctl.data.tokenizer import Tokenizer
from llmctl.errors import ConfigError
from llmctl.infer.sampling import Sampling, next_ids
from llmctl.infer.writing import FinishReason, Writing
from llmctl.model.cache import KVCache
from llmctl.model.checkpoint import load_model, read_ends
from llmctl.model.device import pick_device, pick_dtype
from llmctl.model.packing import pack
from llmctl.model.transformer import Transformer

OnText = Callable[[int, str], None]
# So far apart, the generators of equal prompts have nothing in common.
SEED_STRIDE = 1_000_003


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What was written after a prompt: the text alone, and how many tokens it took.

    `finish_reason` is `stop` (the model's own end, or a stop string) or `length` (`max_tokens`, or
    the end of the context). `truncated` says that only the end of the prompt was read.
    """

    prompt: str
    text: str
    tokens: int
    finish_reason: FinishReason
    truncated: bool


class NextToken(NamedTuple):
    """A token that may come next; `text` is for people to read."""

    id: int
    text: str
    probability: float


class LogLikelihood(NamedTuple):
    """How likely a continuation is: its log-probability in nats, summed over its tokens.

    `is_greedy` says that every token of it was the likeliest.
    """

    nats: float
    tokens: int
    is_greedy: bool


@dataclass(slots=True)
class _Request:
    """A prompt on its way through a batch."""

    index: int
    prompt: str
    ids: list[int]
    is_cut: bool
    limit: int
    generator: torch.Generator
    writing: Writing
    last: int = -1

    def completion(self) -> Completion:
        reason = self.writing.finish_reason
        assert reason is not None
        return Completion(
            prompt=self.prompt,
            text=self.writing.text,
            tokens=self.writing.tokens,
            finish_reason=reason,
            truncated=self.is_cut,
        )


class Engine:
    """Text in, text out. `rows` is how many prompts are worked on at once.

    A text ends at the tokenizer's own ends and at `ends`, those that the model's folder names.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        rows: int = 16,
        ends: frozenset[int] = frozenset(),
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.rows = rows
        self.context = model.shape.context
        own = (tokenizer.eos_id, tokenizer.im_end_id)
        self._ends = ends | {end for end in own if end is not None}

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        device: str = "auto",
        precision: Literal["auto", "bf16", "float32"] = "auto",
        rows: int = 16,
    ) -> "Engine":
        """The engine of a model folder, on the best device and in its fastest type."""
        where = pick_device(device)
        model = load_model(directory, dtype=pick_dtype(where, precision), device=where)
        pack(model)
        return cls(model, Tokenizer.load(directory), rows=rows, ends=read_ends(directory))

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], sampling: Sampling, *, on_text: OnText | None = None
    ) -> list[Completion]:
        """Write on from each prompt; `on_text(index, piece)` hears the text as it comes.

        A prompt that fills the context is cut at its beginning to leave room for the answer. The
        same seed writes the same text; equal prompts in one call get different draws.
        """
        encoded = [self.tokenizer.encode_prompt(prompt) for prompt in prompts]
        return self._complete(prompts, encoded, sampling, on_text)

    @torch.inference_mode()
    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        sampling: Sampling,
        *,
        on_text: OnText | None = None,
    ) -> list[Completion]:
        """Say what comes next in each conversation, which the user spoke last in.

        The ids are those of training (`ChatTemplate`); `prompt` of a completion is what was said.
        """
        encoded = [self.chat_template.prompt_ids(one) for one in conversations]
        said = [one[-1].content for one in conversations]
        return self._complete(said, encoded, sampling, on_text)

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """How this model wants conversations written."""
        return ChatTemplate(self.tokenizer)

    @torch.inference_mode()
    def next_tokens(self, prompts: Sequence[str], k: int) -> list[list[NextToken]]:
        """The `k` likeliest tokens after each prompt, the likeliest first."""
        tables: list[list[NextToken]] = []
        encoded = [self.tokenizer.encode_prompt(prompt)[-self.context :] for prompt in prompts]
        for start in range(0, len(encoded), self.rows):
            logits_BV, _ = self._read(encoded[start : start + self.rows])
            top = logits_BV.float().softmax(dim=-1).topk(min(k, logits_BV.shape[-1]))
            for ids, shares in zip(top.indices.tolist(), top.values.tolist(), strict=True):
                texts = map(self.tokenizer.token_text, ids)
                tables.append(list(map(NextToken, ids, texts, shares)))
        return tables

    def log_likelihood(self, context: str, continuation: str) -> LogLikelihood:
        """How likely a continuation is after a context, which may be empty."""
        return self.log_likelihoods([(context, continuation)])[0]

    @torch.inference_mode()
    def log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """How likely each (context, continuation) is; contexts that are too long lose their start.

        Both are encoded as one text: what the tokenizer merges over the border is scored with the
        continuation. Raises ConfigError for a continuation longer than the model's context.
        """
        found: dict[int, LogLikelihood] = {}
        rows = [self._scored_row(context, continuation) for context, continuation in pairs]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
        for start in range(0, len(rows), self.rows):
            some = order[start : start + self.rows]
            scores = self._score([rows[index] for index in some])
            found.update(zip(some, scores, strict=True))
        return [found[index] for index in range(len(rows))]

    def _complete(
        self,
        prompts: Sequence[str],
        encoded: Sequence[list[int]],
        sampling: Sampling,
        on_text: OnText | None,
    ) -> list[Completion]:
        requests = self._requests(prompts, encoded, sampling)
        in_order = sorted(requests, key=lambda request: len(request.ids))
        for start in range(0, len(requests), self.rows):
            self._write(in_order[start : start + self.rows], sampling, on_text)
        return [request.completion() for request in requests]

    def _requests(
        self, prompts: Sequence[str], encoded: Sequence[list[int]], sampling: Sampling
    ) -> list[_Request]:
        seen: Counter[str] = Counter()
        requests: list[_Request] = []
        for index, (prompt, ids) in enumerate(zip(prompts, encoded, strict=True)):
            is_cut = len(ids) > self.context
            if is_cut:
                ids = ids[-(self.context - min(sampling.max_tokens, self.context // 2)) :]
            # The last token of all is written and never read, so it needs no place in the context.
            limit = min(sampling.max_tokens, self.context - len(ids) + 1)
            generator = torch.Generator().manual_seed(sampling.seed + SEED_STRIDE * seen[prompt])
            seen[prompt] += 1
            writing = Writing(self.tokenizer.decode_stream(), sampling.stop, limit)
            requests.append(_Request(index, prompt, ids, is_cut, limit, generator, writing))
        return requests

    def _write(self, active: list[_Request], sampling: Sampling, on_text: OnText | None) -> None:
        """Write on all requests at once; those that finish leave the batch."""
        room = max(request.limit for request in active) - 1
        logits_BV, cache = self._read([request.ids for request in active], room=room)
        device = logits_BV.device
        while True:
            uniforms_B = torch.stack([torch.rand((), generator=one.generator) for one in active])
            ids_B = next_ids(logits_BV, sampling, uniforms_B.to(device))
            self._hand_out(ids_B.tolist(), active, on_text)
            for row in reversed(range(len(active))):
                if active[row].writing.finish_reason:
                    cache.remove(row)
                    active[row] = active[-1]
                    active.pop()
            if not active:
                return
            ids_B1 = torch.tensor([[request.last] for request in active], device=device)
            logits_BV = self.model.logits(self.model.hidden(ids_B1, cache=cache)[:, -1])

    def _hand_out(self, ids: list[int], active: list[_Request], on_text: OnText | None) -> None:
        for request, token in zip(active, ids, strict=True):
            request.last = token
            piece = request.writing.take(token, self._ends)
            if piece and on_text is not None:
                on_text(request.index, piece)

    def _read(self, prompts: Sequence[list[int]], *, room: int = 0) -> tuple[Tensor, KVCache]:
        """Logits (B, V) after each prompt, and a cache with room for so many more tokens."""
        weight = self.model.embedding.weight
        longest = max(map(len, prompts))
        padding = [longest - len(ids) for ids in prompts]
        # Any id serves as padding: no token sees it.
        rows = [[0] * pad + ids for pad, ids in zip(padding, prompts, strict=True)]
        padding_B = torch.tensor(padding, device=weight.device) if any(padding) else None
        cache = KVCache(self.model.shape, len(prompts), longest + room, weight, padding_B)
        x_BTD = self.model.hidden(torch.tensor(rows, device=weight.device), cache=cache)
        return self.model.logits(x_BTD[:, -1]), cache

    def _scored_row(self, context: str, continuation: str) -> tuple[list[int], int]:
        """The ids of both together, and how many at the end belong to the continuation."""
        beginning = self.tokenizer.encode_prompt("")
        ids = self.tokenizer.encode_prompt(context + continuation)
        if not context and (ids[: len(beginning)] != beginning or ids == beginning):
            ids = beginning + ids
        scored = max(1, len(ids) - len(self.tokenizer.encode_prompt(context)))
        if scored == len(ids):
            ids = beginning + ids
        if scored > self.context:
            raise ConfigError(
                f"a continuation of {scored:,} tokens does not fit into the context",
                hint=f"the model reads {self.context:,} tokens at once; score it in pieces",
            )
        return ids[-(self.context + 1) :], scored

    def _score(self, rows: Sequence[tuple[list[int], int]]) -> Iterator[LogLikelihood]:
        # Flush left: what is padded at the right is never seen by what stands before it.
        longest = max(len(ids) for ids, _ in rows) - 1
        padded = [ids[:-1] + [0] * (longest - len(ids) + 1) for ids, _ in rows]
        device = self.model.embedding.weight.device
        x_BTD = self.model.hidden(torch.tensor(padded, device=device))
        for x_TD, (ids, scored) in zip(x_BTD, rows, strict=True):
            logits_TV = self.model.logits(x_TD[len(ids) - 1 - scored : len(ids) - 1]).float()
            targets_T = torch.tensor(ids[-scored:], device=device)
            nats = logits_TV.log_softmax(dim=-1).gather(-1, targets_T[:, None]).double().sum()
            is_greedy = bool((logits_TV.argmax(dim=-1) == targets_T).all())
            yield LogLikelihood(float(nats), scored, is_greedy)
