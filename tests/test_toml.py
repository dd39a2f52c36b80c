import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl import toml
from llmctl.errors import ConfigError

SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]))
TREES = st.recursive(
    SCALARS,
    lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(KEYS, deeper, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(KEYS, TREES, max_size=4))
def test_what_is_written_reads_back(tree: dict[str, object]):
    assert tomllib.loads(toml.dumps(tree)) == tree


def test_a_long_list_has_a_line_for_each_item():
    paths = [f"a/folder/with/a/name/{number}.txt" for number in range(9)]

    written = toml.dumps({"paths": paths})

    assert max(map(len, written.splitlines())) < 50
    assert tomllib.loads(written) == {"paths": paths}


def test_a_key_without_a_value_is_a_comment():
    assert toml.dumps({"name": None}) == "# name is not set\n"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path):
    path = tmp_path / "my.toml"
    path.write_bytes(b"\xef\xbb\xbfsteps = 3\n")

    assert toml.load(path) == {"steps": 3}


@pytest.mark.parametrize("content", [b"steps = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "my.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"my\.toml cannot be read as TOML"):
        toml.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"there is no file .*absent\.toml"):
        toml.load(tmp_path / "absent.toml")
