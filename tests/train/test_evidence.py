"""An embedding begins with what counts of tokens tell of the classes of texts."""

import pytest
import torch

from llmctl.train.evidence import STRENGTH, evidence, plant

# Token 1 stands in every text; 2 in those of class 0, 3 in those of class 1; 4 in one text alone,
# often; 5 in texts of both; 6 and 7 never come.
ROWS = [[1, 2], [1, 2, 5], [1, 2], [1, 2, 5], [1, 3, 5], [1, 3, 5], [1, 3], [1, 3, 4, 4, 4]]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]


def told() -> torch.Tensor:
    return evidence(ROWS, LABELS, num_classes=2, vocab_size=8)


def test_a_token_tells_as_much_as_the_texts_that_hold_it() -> None:
    found_VC = told()

    assert found_VC[2, 0] > found_VC[4, 1] > 0 > found_VC[2, 1]
    assert found_VC[3, 1] == pytest.approx(found_VC[2, 0])
    assert found_VC[[1, 5, 6, 7]].abs().max() < 1e-6
    assert found_VC.sum(dim=1).abs().max() < 1e-6


@pytest.mark.parametrize("classes", [2, 20], ids=["few classes", "more classes than width"])
def test_what_is_planted_is_as_large_as_said_and_leaves_tokens_that_tell_nothing(
    classes: int,
) -> None:
    labels = [number % classes for number in range(200)]
    found_VC = evidence(
        [[1, 2 + one] for one in labels], labels, num_classes=classes, vocab_size=64
    )
    before_VD = torch.nn.functional.normalize(torch.randn(64, 16), dim=1)

    after_VD = before_VD.clone()
    plant(after_VD, found_VC, seed=0)

    changed_V = (after_VD - before_VD).norm(dim=1)
    assert changed_V[2 : 2 + classes].mean() == pytest.approx(STRENGTH, rel=0.3)
    assert changed_V[:2].max() < 1e-6
    assert changed_V[2 + classes :].max() == 0


def test_texts_that_tell_nothing_leave_the_embedding_as_it_was() -> None:
    embedding_VD = torch.ones(4, 8)

    plant(embedding_VD, evidence([[1], [1]], [0, 1], num_classes=2, vocab_size=4), seed=0)

    assert embedding_VD.equal(torch.ones(4, 8))
