import pytest

from llmctl.costs.network import from_config, from_counts, from_shape, published
from llmctl.errors import ConfigError
from llmctl.model.families.llama import FAMILY
from llmctl.shapes import named_shape

# As the files of the published weights count them.
PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "pythia-70m": 70_426_624,
    "pythia-12b": 11_846_072_320,
    "llama-2-7b": 6_738_415_616,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "tinyllama-1.1b": 1_100_048_384,
    "gemma-7b": 8_537_680_896,
    "gemma-2-9b": 9_241_705_984,
}

MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
    "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257,
    "n_positions": 1024,
}  # fmt: skip
OPT = {
    "model_type": "opt", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "ffn_dim": 3072, "vocab_size": 50272, "max_position_embeddings": 2048,
}  # fmt: skip
QWEN2 = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936,
    "tie_word_embeddings": True, "max_position_embeddings": 32768,
}  # fmt: skip


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_a_published_shape_has_exactly_its_parameters(name: str, parameters: int):
    assert published(name).total == parameters


def test_of_a_mixture_a_token_uses_what_its_experts_have():
    assert published("mixtral-8x7b").active == pytest.approx(12.88e9, rel=1e-3)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(MIXTRAL, 46_702_792_704), (GPT2, 124_439_808), (OPT, 125_239_296), (QWEN2, 494_032_768)],
)
def test_a_config_json_is_counted_to_a_thousandth(config: dict[str, object], parameters: int):
    assert from_config(config, name="x").total == pytest.approx(parameters, rel=1e-3)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
def test_our_own_shapes_count_the_same_by_way_of_config_json(family: str):
    shape = named_shape("nano", vocab_size=8192, family=family)
    network = from_shape(shape, name="nano")

    assert network.total == shape.parameters
    if family == "llama":
        again = from_config(FAMILY.config(shape), name="nano")
        assert again._replace(source=network.source) == network


def test_a_guessed_shape_of_gpt3_is_that_of_gpt3():
    guess, truth = from_counts(175e9), published("gpt-3")

    assert (guess.layers, guess.width) == (truth.layers, truth.width)


@pytest.mark.parametrize("count", [0, -1, 1e20])
def test_sizes_that_make_no_sense_are_refused(count: float):
    with pytest.raises(ConfigError):
        from_counts(count)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError) as refused:
        published("llama-3-9b")

    assert "llama-3-8b" in str(refused.value.hint)
