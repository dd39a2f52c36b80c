import pytest

from llmctl.errors import ConfigError
from llmctl.shapes import SIZES, TRAITS, Shape, Size, named_shape, shape_for, shape_of


@pytest.mark.parametrize(
    ("size", "given", "parameters"),
    [
        # Published counts: GPT-2 (its paper's code), Llama 2 7B and Qwen3 0.6B (their checkpoints).
        (Size(12, 768, 64, 1024), {"family": "gpt2", "vocab_size": 50257}, 124_439_808),
        (Size(24, 1024, 64, 1024), {"family": "gpt2", "vocab_size": 50257}, 354_823_168),
        (Size(48, 1600, 64, 1024), {"family": "gpt2", "vocab_size": 50257}, 1_557_611_200),
        (
            Size(32, 4096, 128, 4096),
            {"family": "llama", "vocab_size": 32000, "mlp_width": 11008},
            6_738_415_616,
        ),
        (
            Size(28, 1024, 128, 40960),
            {
                "vocab_size": 151936,
                "num_heads": 16,
                "head_width": 128,
                "num_kv_heads": 8,
                "mlp_width": 3072,
                "tied_head": True,
            },
            596_049_920,
        ),
    ],
)
def test_parameters_of_well_known_models_are_counted_exactly(
    size: Size, given: dict, parameters: int
) -> None:
    assert shape_of(size, **given).parameters == parameters


def test_flops_count_attention_and_head_but_not_the_lookup() -> None:
    byte_shape = shape_of(Size(6, 384, 64, 256), family="gpt2", vocab_size=65)
    word_shape = shape_of(Size(8, 512, 64, 512), family="gpt2", vocab_size=8192)

    # 6 N + 12 L C T, worked out by hand from 10.6 M and 29.4 M matrix parameters.
    assert byte_shape.flops_per_token() == 6 * 10_641_792 + 12 * 6 * 384 * 256
    assert word_shape.flops_per_token() == 6 * 29_360_128 + 12 * 8 * 512 * 512
    assert word_shape.flops_per_token(256) == 6 * 29_360_128 + 12 * 8 * 512 * 256


def test_the_table_names_gpt3_by_its_size() -> None:
    for name in ("2.7b", "6.7b", "13b", "175b"):
        shape = named_shape(name, vocab_size=50257, family="gpt2")

        assert shape.parameters == pytest.approx(float(name[:-1]) * 1e9, rel=0.03)


@pytest.mark.parametrize("family", TRAITS)
def test_sizes_grow_from_row_to_row_in_every_family(family: str) -> None:
    counts = [named_shape(name, vocab_size=8192, family=family).parameters for name in SIZES]

    assert counts == sorted(counts)
    assert counts[0] < 6e6


@pytest.mark.parametrize("parameters", [5e6, 1e7, 3e7, 124e6, 774e6, 1.3e9, 7e9, 70e9, 175e9])
@pytest.mark.parametrize("family", TRAITS)
def test_a_parameter_count_gives_a_well_proportioned_shape(parameters: float, family: str) -> None:
    shape = shape_for(parameters, vocab_size=1024, family=family)

    # Widths come in steps of 64, which are large where the model is small.
    assert shape.parameters == pytest.approx(parameters, rel=0.04 if parameters > 2e7 else 0.07)
    assert 40 <= shape.width / shape.num_layers <= 140
    assert shape.width % 64 == 0
    assert shape.attention_width == shape.width
    assert shape.head_width in (32, 64, 128)


def test_what_is_given_stays_while_the_rest_is_searched() -> None:
    shape = shape_for(124e6, vocab_size=8192, num_layers=6, num_heads=12, context=77)

    assert (shape.num_layers, shape.num_heads, shape.context) == (6, 12, 77)
    assert shape.parameters == pytest.approx(124e6, rel=0.1)
    assert shape_for(124e6, vocab_size=8192, width=512).width == 512


@pytest.mark.parametrize(
    ("parameters", "given"),
    [(3e6, {"vocab_size": 50257}), (1e9, {"vocab_size": 1024, "num_layers": 2, "width": 64})],
)
def test_a_count_that_cannot_be_met_is_refused_with_the_nearest(
    parameters: float, given: dict
) -> None:
    with pytest.raises(ConfigError, match="the nearest has"):
        shape_for(parameters, **given)


@pytest.mark.parametrize("parameters", [0, -1e6, 1e20, float("nan"), float("inf")])
def test_a_senseless_count_is_refused(parameters: float) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        shape_for(parameters, vocab_size=1024)


def test_a_size_may_be_changed_in_part_and_the_rest_follows() -> None:
    shape = named_shape("nano", vocab_size=64, width=96, num_heads=2, context=16)

    assert (shape.head_width, shape.num_kv_heads, shape.mlp_width) == (48, 2, 256)
    assert (shape.num_layers, shape.context) == (SIZES["nano"].num_layers, 16)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"vocab_size": -5}, "vocab_size"),
        ({"window": 0}, "window"),
        ({"num_heads": 0}, "num_heads"),
        ({"num_heads": 5}, "5 heads"),
        ({"num_kv_heads": 4}, "share 4"),
        ({"width": 100}, "heads of 32"),
        ({"head_width": 33, "num_heads": 2}, "even head width"),
    ],
)
def test_impossible_shapes_are_refused_by_name(given: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        named_shape("nano", **{"vocab_size": 64, **given})


def test_wrong_names_get_near_ones() -> None:
    with pytest.raises(ConfigError) as size:
        named_shape("smal", vocab_size=64)
    with pytest.raises(ConfigError) as family:
        named_shape("small", vocab_size=64, family="lama")

    assert "small" in str(size.value.hint)
    assert "llama" in str(family.value.hint)


def test_more_of_anything_is_more_to_keep_in_the_cache() -> None:
    shape: Shape = named_shape("small", vocab_size=50257)
    shared = named_shape("small", vocab_size=50257, num_kv_heads=3)

    # 2 tensors x 12 layers x 768 numbers x 2 bytes.
    assert shape.cache_bytes_per_token() == 36_864
    assert shared.cache_bytes_per_token() == 36_864 // 4
