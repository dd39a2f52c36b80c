"""The engine: what a prompt gets depends on the prompt, the seed and the model alone."""

import json
from pathlib import Path

import pytest
import tokenizers
import torch

from llmctl.data.tokenizer import Tokenizer
from llmctl.data.tokenizer_training import byte_tokenizer
from llmctl.errors import ConfigError
from llmctl.infer.engine import Engine
from llmctl.infer.sampling import Sampling
from llmctl.model.checkpoint import save_model
from llmctl.model.transformer import fresh
from llmctl.shapes import Size, shape_of

CONTEXT = 48
PROMPTS = ["Once", "", "a much longer beginning", "Once", "x" * 30]
LIVELY = Sampling(max_tokens=12, temperature=0.9, top_k=60, top_p=0.95, min_p=0.001, seed=3)
GREEDY = Sampling(max_tokens=12, temperature=0)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_tokenizer()


@pytest.fixture(scope="module", params=["qwen3", "gpt2"])
def engine(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Engine:
    """A model of random weights that writes printable letters, three prompts at a time."""
    shape = shape_of(
        Size(2, 64, 32, CONTEXT),
        vocab_size=tokenizer.vocab_size,
        family=request.param,
        tied_head=False,
    )
    model = fresh(shape, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        model.head_weight[:32] = 0
        model.head_weight[127:] = 0
    return Engine(model, tokenizer, rows=3)


def single_minded(tokenizer: Tokenizer, token: int) -> Engine:
    """A model that expects one token, whatever it reads."""
    shape = shape_of(
        Size(1, 64, 32, CONTEXT), vocab_size=tokenizer.vocab_size, family="gpt2", tied_head=False
    )
    model = fresh(shape, seed=0)
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.fill_(1.0)
        model.head_weight.zero_()
        model.head_weight[token] = 1.0
    return Engine(model, tokenizer)


@torch.inference_mode()
def likeliest(engine: Engine, ids: list[int], count: int) -> str:
    """What the model writes on greedily, read anew for each token."""
    for _ in range(count):
        ids = [*ids, int(engine.model(torch.tensor([ids]))[0, -1].argmax())]
    return engine.tokenizer.decode(ids[-count:])


@pytest.mark.parametrize("sampling", [LIVELY, GREEDY])
def test_a_prompt_gets_in_a_batch_what_it_gets_alone(engine: Engine, sampling: Sampling) -> None:
    together = engine.generate(PROMPTS[:3] + PROMPTS[4:], sampling)

    alone = [engine.generate([one.prompt], sampling)[0] for one in together]

    assert together == alone
    assert all(one.tokens == 12 for one in together)
    assert len({one.text for one in together}) == 4


def test_greedy_text_is_the_likeliest_token_each_time(engine: Engine) -> None:
    for one in engine.generate(PROMPTS, GREEDY):
        assert one.text == likeliest(engine, engine.tokenizer.encode_prompt(one.prompt), 12)


def test_rows_that_finish_early_leave_the_others_alone(engine: Engine) -> None:
    stop = engine.generate(["Once"], GREEDY)[0].text[2:4]
    sampling = Sampling(max_tokens=12, temperature=0, stop=(stop,))

    together = engine.generate(PROMPTS[:3], sampling)

    assert together[0].finish_reason == "stop"
    assert [engine.generate([one.prompt], sampling)[0] for one in together] == together
    assert not any(stop in one.text for one in together)


def test_the_seed_decides_and_equal_prompts_differ(engine: Engine) -> None:
    first = engine.generate(PROMPTS, LIVELY)

    assert engine.generate(PROMPTS, LIVELY) == first
    assert first[0].prompt == first[3].prompt
    assert first[0].text != first[3].text
    other = Sampling(max_tokens=12, temperature=0.9, seed=4)
    assert engine.generate(["Once"], other)[0].text != first[0].text


def test_a_shorter_text_is_the_beginning_of_a_longer_one(engine: Engine) -> None:
    short, long = (
        engine.generate(["Once"], Sampling(max_tokens=count, temperature=0.9))[0].text
        for count in (6, 20)
    )

    assert len(short) == 6
    assert long.startswith(short)


def test_pieces_that_stream_are_the_text(engine: Engine) -> None:
    heard = dict.fromkeys(range(len(PROMPTS)), "")

    def hear(index: int, piece: str) -> None:
        heard[index] += piece

    found = engine.generate(PROMPTS, LIVELY, on_text=hear)

    assert list(heard.values()) == [one.text for one in found]


def test_the_context_is_the_end_of_a_text(engine: Engine) -> None:
    prompt = "y" * 40

    found = engine.generate([prompt, "y"], Sampling(max_tokens=300, temperature=0))

    # The end of text stands in front of a prompt; the last token is written and not read.
    assert [one.tokens for one in found] == [CONTEXT - 41 + 1, CONTEXT - 2 + 1]
    assert all(one.finish_reason == "length" and not one.truncated for one in found)


def test_a_prompt_beyond_the_context_keeps_its_end_and_says_so(engine: Engine) -> None:
    prompt = "".join(chr(97 + index % 26) for index in range(CONTEXT + 20))

    found = engine.generate([prompt], GREEDY)[0]

    assert found.truncated
    assert found.tokens == 12
    assert found.text == likeliest(engine, list(prompt.encode())[-(CONTEXT - 12) :], 12)


def test_the_models_own_end_stops_a_text(tokenizer: Tokenizer) -> None:
    for end in (tokenizer.eos_id, tokenizer.im_end_id):
        assert end is not None
        found = single_minded(tokenizer, end).generate(["Hi"], GREEDY)[0]

        assert (found.text, found.tokens, found.finish_reason) == ("", 0, "stop")


@pytest.mark.parametrize("ends", [65, [7, 65]])
def test_a_text_stops_at_every_end_that_a_published_folder_names(
    tokenizer: Tokenizer, tmp_path: Path, ends: int | list[int]
) -> None:
    model = single_minded(tokenizer, 65).model
    save_model(model.state_dict(), model.shape, tmp_path)
    tokenizer.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))

    [one] = Engine.open(tmp_path).generate(["Once"], GREEDY)

    assert (one.text, one.finish_reason) == ("", "stop")


def test_next_tokens_are_those_of_the_model(engine: Engine, tokenizer: Tokenizer) -> None:
    tables = engine.next_tokens(PROMPTS, 5)

    for prompt, table in zip(PROMPTS, tables, strict=True):
        ids = torch.tensor([tokenizer.encode_prompt(prompt)])
        shares = engine.model(ids)[0, -1].softmax(dim=-1)
        assert [one.id for one in table] == shares.topk(5).indices.tolist()
        found = [one.probability for one in table]
        assert found == pytest.approx(shares.topk(5).values.tolist(), rel=1e-4)
        assert [one.text for one in table] == [chr(one.id) for one in table]


def test_log_likelihoods_are_sums_over_the_continuation(
    engine: Engine, tokenizer: Tokenizer
) -> None:
    pairs = [("The capital", " is Paris"), ("", "word"), ("a", "b"), ("z" * 100, "end")]

    found = engine.log_likelihoods(pairs)

    for (context, continuation), one in zip(pairs, found, strict=True):
        ids = [*tokenizer.encode_prompt(context), *continuation.encode()][-(CONTEXT + 1) :]
        logs = engine.model(torch.tensor([ids[:-1]]))[0].log_softmax(dim=-1)
        nats = logs[torch.arange(len(ids) - 1), ids[1:]][-len(continuation) :].sum()
        assert one.nats == pytest.approx(nats.item(), rel=1e-4)
        assert one.tokens == len(continuation)
        assert engine.log_likelihood(context, continuation).nats == pytest.approx(one.nats)


def test_a_token_that_merges_over_the_border_is_scored_after_an_end_of_text() -> None:
    vocabulary = {"a": 0, "b": 1, "ab": 2, "<end>": 3}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("a", "b")]))
    backend.add_special_tokens(["<end>"])
    model = fresh(shape_of(Size(1, 64, 32, CONTEXT), vocab_size=4), seed=0)
    engine = Engine(model, Tokenizer(backend, {"eos_token": "<end>"}))

    found = engine.log_likelihoods([("a", "b"), ("", "ab"), ("", "aab")])

    logs = model(torch.tensor([[3, 0]]))[0].log_softmax(dim=-1)
    first = logs[0, 2].item()
    assert [one.tokens for one in found] == [1, 1, 2]
    assert [one.nats for one in found] == pytest.approx(
        [first, first, (logs[0, 0] + logs[1, 2]).item()]
    )


def test_what_the_model_would_write_is_greedy(engine: Engine) -> None:
    written = engine.generate(["Once"], GREEDY)[0].text
    other = ("a" if written[0] != "a" else "b") + written[1:]

    assert engine.log_likelihood("Once", written).is_greedy
    assert not engine.log_likelihood("Once", other).is_greedy


def test_a_continuation_beyond_the_context_is_refused(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        engine.log_likelihood("a", "b" * (CONTEXT + 1))


def test_an_engine_opens_a_model_folder(
    engine: Engine, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(engine.model.state_dict(), engine.model.shape, tmp_path)
    tokenizer.save(tmp_path)

    opened = Engine.open(tmp_path, device="cpu", precision="float32")

    assert opened.generate(PROMPTS, GREEDY) == engine.generate(PROMPTS, GREEDY)


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
@pytest.mark.parametrize("tied_head", [True, False])
def test_an_opened_engine_in_bfloat16_writes_what_the_model_computes(
    tokenizer: Tokenizer, tmp_path: Path, family: str, tied_head: bool
) -> None:
    size = Size(2, 64, 32, CONTEXT)
    shape = shape_of(size, vocab_size=tokenizer.vocab_size, family=family, tied_head=tied_head)
    model = fresh(shape, seed=0).to(torch.bfloat16)
    save_model(model.state_dict(), shape, tmp_path)
    tokenizer.save(tmp_path)

    opened = Engine.open(tmp_path, device="cpu", precision="bf16")

    assert opened.generate(PROMPTS, LIVELY) == Engine(model, tokenizer).generate(PROMPTS, LIVELY)
