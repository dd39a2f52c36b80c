from pathlib import Path

import pytest
import torch
import transformers

from llmctl.errors import WorkspaceError
from llmctl.model.checkpoint import SpecialIds
from llmctl.model.classifier import Classifier, alike, class_logits, classifier_from, padded
from llmctl.model.classifier_folder import is_classifier, load_classifier, save_classifier
from llmctl.model.transformer import fresh
from llmctl.shapes import named_shape

PAD = 3
CLASSES = ("ham", "spam", "other")
TEXTS = [[5, 6, 7, 8, 9, 10, 11], [20, 21], [30, 31, 32, 33]]


@pytest.fixture(params=["qwen3", "llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Classifier:
    shape = named_shape(
        "nano", vocab_size=64, family=request.param, num_layers=2, width=32, num_heads=2, context=16
    )
    decoder = fresh(shape, 1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return classifier_from(decoder, len(CLASSES), seed=2)


def save(model: Classifier, folder: Path) -> Path:
    save_classifier(model, model.state_dict(), CLASSES, folder, special=SpecialIds(pad=PAD))
    return folder


@pytest.mark.parity
def test_transformers_opens_the_folder_and_computes_the_same_logits(
    model: Classifier, tmp_path: Path
) -> None:
    other = transformers.AutoModelForSequenceClassification.from_pretrained(save(model, tmp_path))
    ids_BT, lengths_B = padded(TEXTS, PAD, "cpu")
    mask_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]

    theirs = other(input_ids=ids_BT, attention_mask=mask_BT.long()).logits

    assert other.config.id2label == dict(enumerate(CLASSES))
    torch.testing.assert_close(model(ids_BT, lengths_B), theirs, atol=1e-4, rtol=0)


def test_a_folder_gives_back_the_classifier_that_was_saved(
    model: Classifier, tmp_path: Path
) -> None:
    loaded = load_classifier(save(model, tmp_path))

    assert is_classifier(tmp_path)
    assert loaded.classes == CLASSES
    assert torch.equal(class_logits(loaded.model, TEXTS, PAD), class_logits(model, TEXTS, PAD))


def test_a_folder_that_names_no_classes_is_refused(model: Classifier, tmp_path: Path) -> None:
    config = save(model, tmp_path) / "config.json"
    config.write_text(config.read_text().replace("id2label", "task_specific_params"))

    with pytest.raises(WorkspaceError, match="does not name its classes"):
        load_classifier(tmp_path)


def test_a_text_gets_the_same_logits_however_it_is_padded(model: Classifier) -> None:
    alone = torch.cat([class_logits(model, [text], PAD) for text in TEXTS])

    together = class_logits(model, TEXTS, PAD)

    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_lower_and_upper_layers_make_the_whole(model: Classifier) -> None:
    ids_BT, _ = padded(TEXTS, PAD, "cpu")

    halves = model.decoder.upper(model.decoder.lower(ids_BT, 1), 1)

    assert torch.equal(halves, model.decoder.hidden(ids_BT))


def test_rows_of_like_length_stand_together_and_none_is_lost() -> None:
    rows = [[0] * length for length in (9000, 3, 5000, 4, 4000, 1)]

    groups = list(alike(rows))

    assert sorted(index for group in groups for index in group) == list(range(6))
    assert groups[-1] == [0]
