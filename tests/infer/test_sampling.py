"""Sampling against a brute-force reference in plain Python."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.errors import ConfigError
from llmctl.infer.sampling import Sampling, next_ids

LOGITS = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=2, max_size=12, unique=True)


def reference(logits: list[float], sampling: Sampling) -> dict[int, float]:
    """What each token's probability should be, by sorting and adding in Python."""
    top = max(logits)
    weights = [math.exp((one - top) / sampling.temperature) for one in logits]
    order = sorted(range(len(logits)), key=lambda index: -weights[index])[: sampling.top_k]
    total = sum(weights[index] for index in order)
    before = itertools.accumulate((weights[index] / total for index in order), initial=0.0)
    kept = [index for index, held in zip(order, before, strict=False) if held < sampling.top_p]
    kept = [index for index in kept if weights[index] >= sampling.min_p * weights[order[0]]]
    return {index: weights[index] / sum(weights[one] for one in kept) for index in kept}


@settings(max_examples=200, deadline=None)
@given(
    logits=LOGITS,
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.none() | st.integers(1, 15),
    top_p=st.sampled_from([1.0, 0.93, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.037, 0.31, 1.0]),
)
def test_tokens_are_drawn_as_often_as_the_reference_says(
    logits: list[float], temperature: float, top_k: int | None, top_p: float, min_p: float
) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    wanted = reference(logits, sampling)

    # Evenly spaced numbers hit each token in proportion to its probability.
    count = 2000
    uniforms = (torch.arange(count) + 0.5) / count
    found = next_ids(torch.tensor(logits).expand(count, -1), sampling, uniforms)

    shares = torch.bincount(found, minlength=len(logits)) / count
    for index, share in enumerate(shares.tolist()):
        assert share == pytest.approx(wanted.get(index, 0.0), abs=2 / count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_temperature_zero_takes_the_likeliest_and_a_tiny_one_nearly_does(
    dtype: torch.dtype,
) -> None:
    logits = torch.tensor([[1.0, 7.0, 6.5], [-3.0, -900.0, 80.0]], dtype=dtype)
    uniforms = torch.tensor([0.999, 0.0])

    for temperature in (0.0, 1e-39):
        found = next_ids(logits, Sampling(temperature=temperature), uniforms)

        assert found.tolist() == [1, 2]


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(min_p=0.2)])
def test_no_number_draws_a_token_that_was_left_out(uniform: float, sampling: Sampling) -> None:
    logits = torch.randn(256, 5000, generator=torch.Generator().manual_seed(0))
    logits[:, 0], logits[:, -1] = -torch.inf, -torch.inf

    found = next_ids(logits, sampling, torch.full((256,), uniform))

    shares = logits.softmax(dim=-1)
    drawn = shares.gather(-1, found[:, None])[:, 0]
    assert (drawn > 0).all()
    assert (drawn >= 0.999 * sampling.min_p * shares.amax(dim=-1)).all()


@pytest.mark.parametrize(
    "given",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"stop": ("end", "")},
    ],
)
def test_senseless_sampling_is_refused_by_name(given: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        Sampling(**given)
