"""Compute-optimal sizes and expected losses by a published scaling law.

Hoffmann et al. (arXiv 2203.15556), approach 3 with the constants as they were corrected by
Besiroglu et al. (arXiv 2404.10102): L(N, D) = E + A / N^a + B / D^b, in nats a token of their text.
"""

ENTROPY, A, B, ALPHA, BETA = 1.8172, 482.01, 2085.43, 0.3478, 0.3658
TOKENS_PER_PARAMETER = 20
SOURCE = "arXiv 2203.15556 with the constants of arXiv 2404.10102"


def expected_loss(parameters: float, tokens: float) -> float:
    """Nats a token on text like that of MassiveText; elsewhere good for comparing alone.

    >>> round(expected_loss(70e9, 1.4e12), 2)
    1.97
    """
    return ENTROPY + A / parameters**ALPHA + B / tokens**BETA


def compute_optimal_tokens(parameters: float) -> float:
    """Tokens that go with a size where compute is what is scarce: 20 a parameter."""
    return TOKENS_PER_PARAMETER * parameters


def compute_optimal(flops: float) -> tuple[float, float]:
    """Parameters and tokens that a budget of FLOPs is best spent on: C = 6 N x 20 N."""
    parameters = (flops / 6 / TOKENS_PER_PARAMETER) ** 0.5
    return parameters, compute_optimal_tokens(parameters)
