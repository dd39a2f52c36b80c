import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, models, processors
from transformers import AutoTokenizer

from llmctl.data.tokenizer import Tokenizer
from llmctl.errors import ConfigError


@pytest.fixture
def foreign(tmp_path) -> Path:
    """A folder with a tokenizer.json of somebody else: a few words, and tokens named <…>."""
    words = ["hello", "you", "<unk>", "<s>", "<end>", "<fill>"]
    backend = tokenizers.Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(word, special=True) for word in words[2:]])
    backend.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", {"eos_token": "<end>"}),
        ("tokenizer_config.json", {"eos_token": {"content": "<end>", "lstrip": False}}),
        ("special_tokens_map.json", {"eos_token": "<end>"}),
        ("generation_config.json", {"eos_token_id": [4, 3]}),
        ("config.json", {"eos_token_id": 4}),
    ],
)
def test_the_end_of_text_token_is_found_wherever_a_folder_names_it(foreign, name, content):
    write(foreign, name, content)

    assert Tokenizer.load(foreign).eos_id == 4


def test_names_count_more_than_numbers_and_unknown_names_do_not_count(foreign):
    write(foreign, "tokenizer_config.json", {"eos_token": "<end>", "pad_token": "<nowhere>"})
    write(foreign, "config.json", {"eos_token_id": 3, "pad_token_id": 5})

    tokenizer = Tokenizer.load(foreign)

    assert (tokenizer.eos_id, tokenizer.pad_id) == (4, 5)


def test_without_an_end_of_text_token_loading_says_how_to_name_one(foreign):
    with pytest.raises(ConfigError) as refusal:
        Tokenizer.load(foreign)

    assert "eos_token" in refusal.value.hint


def test_a_tokenizer_file_that_stands_alone_ends_texts_as_is_usual(foreign):
    file = foreign / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8").replace("<end>", "</s>"), encoding="utf-8")

    assert Tokenizer.load(file).eos_id == 4


def test_padding_is_by_the_end_of_text_token_where_no_other_is_named(foreign, tmp_path_factory):
    write(foreign, "config.json", {"eos_token_id": 4})
    saved = tmp_path_factory.mktemp("saved")

    tokenizer = Tokenizer.load(foreign)
    tokenizer.save(saved)

    assert tokenizer.pad_id == 4
    assert AutoTokenizer.from_pretrained(saved).pad_token == "<end>"


def test_a_prompt_has_the_first_token_of_the_foreign_rule_once_and_none_where_there_is_no_rule(
    foreign,
):
    write(foreign, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "<end>"})
    without = Tokenizer.load(foreign)
    backend = tokenizers.Tokenizer.from_file(str(foreign / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 3)])
    backend.save(str(foreign / "tokenizer.json"))
    with_rule = Tokenizer.load(foreign)

    assert without.encode_prompt("hello you") == [0, 1]
    assert without.encode_prompt("") == [without.eos_id]
    assert with_rule.encode_prompt("hello you") == [3, 0, 1]
    assert with_rule.encode_prompt("<s> hello you") == [3, 0, 1]
    assert with_rule.encode("hello you").tolist() == [0, 1]


def test_a_greatest_length_and_padding_in_a_foreign_file_do_not_touch_documents(foreign):
    backend = tokenizers.Tokenizer.from_file(str(foreign / "tokenizer.json"))
    backend.enable_truncation(2)
    backend.enable_padding(length=5)
    backend.save(str(foreign / "tokenizer.json"))
    write(foreign, "config.json", {"eos_token_id": 4})

    tokenizer = Tokenizer.load(foreign)

    assert tokenizer.encode("you you you").tolist() == [1, 1, 1]
    assert tokenizer.encode_prompt("hello") == [0]


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_template_survives_loading_and_saving(foreign, place, tmp_path_factory):
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    write(foreign, "tokenizer_config.json", {"eos_token": "<end>", "chat_template": template})
    if place == "chat_template.jinja":
        write(foreign, "tokenizer_config.json", {"eos_token": "<end>"})
        (foreign / place).write_text(template, encoding="utf-8")
    saved = tmp_path_factory.mktemp("saved")

    Tokenizer.load(foreign).save(saved)

    talk = [{"role": "user", "content": "hello you"}]
    assert AutoTokenizer.from_pretrained(saved).apply_chat_template(talk, tokenize=False) == (
        "hello you"
    )


def test_what_is_no_tokenizer_is_refused_by_its_path(tmp_path):
    (tmp_path / "tokenizer.json").write_text("[1, 2", encoding="utf-8")

    for place in (tmp_path, tmp_path / "tokenizer.json", tmp_path / "nothing"):
        with pytest.raises(ConfigError, match=str(place)):
            Tokenizer.load(place)


def test_a_broken_file_beside_the_tokenizer_is_named(foreign):
    (foreign / "tokenizer_config.json").write_text("{", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"tokenizer_config\.json"):
        Tokenizer.load(foreign)
