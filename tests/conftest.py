"""What all tests share: no network, golden files, and the data beside the project."""

import functools
import hashlib
import json
import os
import runpy
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch

from llmctl.data.sources.files import Files
from llmctl.data.tokenizer import Tokenizer
from llmctl.model.checkpoint import save_model
from llmctl.model.transformer import fresh
from llmctl.shapes import Size, shape_of
from llmctl.stages import collect, tokenize
from llmctl.workspace import Workspace

# Read when huggingface_hub is first imported: else it asks its hub who is calling.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
TESTS = Path(__file__).parent
OFFLINE = TESTS / "offline"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")
    parser.addoption("--mutations", type=int, default=240, help="how many inputs are broken")
    parser.addoption("--kills", type=int, default=8, help="how often a run is killed")
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


class Hub:
    """A hub on this machine: folders as repositories, and what it says to who asks for a file.

    `refusals` are a status and a code of the hub's own by repository; `tokens` what was shown.
    """

    commit = "0123456789" * 4

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.tokens: list[str | None] = []
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.is_up = True

    def stop(self) -> None:
        """Be gone, as a hub is without a network."""
        self.is_up = False
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, code and body of what a path stands for."""
        is_api = path.startswith("/api/models/")
        words = path.removeprefix("/api/models" if is_api else "").strip("/").split("/")
        repository, rest = "/".join(words[:2]), words[2:]
        folder = self.repositories.get(repository)
        if folder is None:
            return 404, "RepoNotFound", b""
        if rest[:1] == ["revision"] and rest[1] not in ("main", self.commit):
            return 404, "RevisionNotFound", b""
        files = [self._entry(one) for one in sorted(folder.iterdir()) if one.is_file()]
        if is_api and "tree" in rest:
            return 200, "", json.dumps(files).encode()
        if is_api:
            about = {"id": repository, "sha": self.commit, "siblings": files}
            return 200, "", json.dumps(about).encode()
        return *self.refusals.get(repository, (200, "")), (folder / rest[-1]).read_bytes()

    def _entry(self, file: Path) -> dict[str, Any]:
        content = file.read_bytes()
        names = {"type": "file", "path": file.name, "rfilename": file.name}
        return names | {"oid": hashlib.sha1(content).hexdigest(), "size": len(content)}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(path)
            hub.tokens.append(self.headers.get("Authorization"))
            status, code, body = hub.answer(path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", hub.commit)
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without repositories, which is the only one that huggingface_hub knows of."""
    hub, constants = Hub(), import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")[1:]
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "".join(template))
    yield hub
    if hub.is_up:
        hub.stop()


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


@pytest.fixture(scope="session")
def random_base(
    tiny_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of a model of a family that was never trained, every number of it random."""

    def write(family: str) -> Path:
        tokenizer = Tokenizer.load(tiny_workspace.take("tokenizer", None).path)
        shape = shape_of(Size(2, 32, 16, 512), vocab_size=tokenizer.vocab_size, family=family)
        model = fresh(shape, 0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for one in model.parameters():
                one.add_(0.05 * torch.randn(one.shape, generator=generator))
        directory = tmp_path_factory.mktemp("random") / family
        directory.mkdir()
        save_model(model.state_dict(), shape, directory)
        tokenizer.save(directory)
        return directory

    return functools.cache(write)
