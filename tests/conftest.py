"""What all tests share: no network, golden files, and the data beside the project."""

import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from llmctl.data.sources.files import Files
from llmctl.stages import collect, tokenize
from llmctl.workspace import Workspace

# Read when huggingface_hub is first imported: else it asks its hub who is calling.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
TESTS = Path(__file__).parent
OFFLINE = TESTS / "offline"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")
    parser.addoption("--mutations", type=int, default=240, help="how many inputs are broken")
    parser.addoption("--kills", type=int, default=20, help="how often a run is killed")
    parser.addoption("--online", action="store_true", help="run the tests that need the internet")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--online"):
        for item in items:
            if item.get_closest_marker("network"):
                item.add_marker(pytest.mark.skip(reason="needs the internet: --online"))


@pytest.fixture(scope="session", autouse=True)
def _offline() -> Iterator[None]:
    """Block connections here, and in the Python processes that inherit this environment."""
    path = os.pathsep.join(filter(None, (str(OFFLINE), os.environ.get("PYTHONPATH"))))
    runpy.run_path(str(OFFLINE / "sitecustomize.py"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        yield


@pytest.fixture(autouse=True)
def _online(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the block for a test that is marked `network`."""
    if request.node.get_closest_marker("network"):
        monkeypatch.setenv("LLMCTL_TESTS_ONLINE", "1")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with a file of `tests/golden`, or with `--update-golden` write it."""

    def check(name: str, text: str) -> None:
        path = TESTS / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run `pytest --update-golden`"
        assert text == path.read_text(encoding="utf-8"), "see `pytest --update-golden`"

    return check


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; tests that need it skip where it is absent."""
    folder = TESTS.parents[1] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


def _write_tiny_corpus(folder: Path) -> Path:
    """About 200 kB of English that Python itself ships, a file a topic."""
    folder.mkdir()
    for name, text in sorted(topics.items())[:40]:
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a small corpus and its bytes as tokens, for everybody who trains."""
    folder = tmp_path_factory.mktemp("tiny")
    workspace = Workspace(folder / "workspace")
    source = Files(paths=(str(_write_tiny_corpus(folder / "topics")),))
    collect.run(collect.Collect(source=source), workspace)
    tokenize.run(tokenize.Tokenize(level="byte", validation="0.05"), workspace)
    return workspace
