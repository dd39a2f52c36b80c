"""A network, a kind of training and a number of tokens -> FLOPs, in both conventions.

Forward is 2 FLOPs a parameter and token; backward is twice that, once for the activations and
once for the weights, so a frozen weight costs 4 and not 6 (Kaplan et al., arXiv 2001.08361,
section 2.1; LoRA, arXiv 2106.09685).
"""

from typing import Literal, NamedTuple

from llmctl.costs.network import Network

Stage = Literal["pretrain", "full", "lora", "qlora", "prefer", "api"]
# What trains adapters beside frozen weights; by API it is not said, and LoRA is what is sold.
ADAPTED = frozenset[Stage](("lora", "qlora", "api"))

Recompute = Literal["none", "selective", "full"]


class Flops(NamedTuple):
    """FLOPs of a run. `simple` is the 6N·D that everybody quotes; `model` adds what causal
    attention computes; `model_full_attention` counts the masked half too, as PaLM does;
    `hardware` is `model` and what is computed twice to save memory.
    """

    simple: float
    model: float
    model_full_attention: float
    hardware: float
    per_parameter: float

    @property
    def attention_share(self) -> float:
        """How much of the work is attention over the context."""
        return 1 - self.simple / self.model


def training_flops(
    network: Network,
    *,
    stage: Stage,
    tokens: float,
    recompute: Recompute = "none",
    adapter_parameters: float = 0.0,
) -> Flops:
    """FLOPs of training a network on so many tokens (in `prefer`: chosen and rejected together).

    >>> from llmctl.costs.network import published
    >>> f"{training_flops(published('gpt-3'), stage='pretrain', tokens=300e9).simple:.3g}"
    '3.14e+23'
    """
    per_parameter = flops_per_parameter(stage)
    simple = per_parameter * network.active + 6 * adapter_parameters
    reference = 1 / 3 if stage == "prefer" else 0.0
    forward_attention = forward_attention_flops(network)
    attention = 3 * forward_attention * (1 + reference)
    again = {
        "none": 0.0,
        "selective": forward_attention,
        "full": 2 * network.active + forward_attention,
    }[recompute]
    return Flops(
        simple=simple * tokens,
        model=(simple + attention) * tokens,
        model_full_attention=(simple + 2 * attention) * tokens,
        hardware=(simple + attention + again) * tokens,
        per_parameter=per_parameter,
    )


def flops_per_parameter(stage: Stage) -> float:
    """Training FLOPs a token and parameter, attention over the context left out."""
    if stage in ADAPTED:
        return 4.0
    # The reference model of DPO reads every token once more.
    return 8.0 if stage == "prefer" else 6.0


def forward_attention_flops(network: Network) -> float:
    """Forward FLOPs a token of causal attention: half of 4·L·d·s, s at most the window."""
    context = network.context
    if network.window and network.window < context:
        # All but the first tokens see a whole window.
        seen = network.window * (1 - network.window / (2 * context))
    else:
        seen = context / 2
    return 4 * network.layers * network.attention_width * seen


def adapter_parameters(network: Network, rank: int) -> float:
    """Parameters of LoRA adapters of that rank on every matrix of every layer."""
    return float(rank * network.layers * network.linear_width_per_layer)
