import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from llmctl.data.tokenizer_hub import tokenizer_from
from llmctl.data.tokenizer_training import byte_tokenizer
from llmctl.errors import ConfigError, RemoteError

COMMIT = "0123456789" * 4


@pytest.fixture
def saved(tmp_path) -> Path:
    folder = tmp_path / "saved"
    folder.mkdir()
    byte_tokenizer().save(folder)
    return folder


@pytest.fixture
def hub(saved, tmp_path, monkeypatch) -> Iterator[ThreadingHTTPServer]:
    """A hub on this machine whose every repository holds the saved tokenizer."""

    class Repository(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            files = [
                {
                    "type": "file",
                    "path": one.name,
                    "rfilename": one.name,
                    "oid": COMMIT,
                    "size": one.stat().st_size,
                }
                for one in saved.iterdir()
            ]
            path = self.path.partition("?")[0]
            if "/tree/" in path:
                body = json.dumps(files).encode()
            elif path.startswith("/api/"):
                body = json.dumps({"id": "a/b", "sha": COMMIT, "siblings": files}).encode()
            else:
                body = (saved / Path(path).name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{path}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Repository)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_and_a_file_are_read_without_a_hub(saved):
    digests = {tokenizer_from(str(place)).digest for place in (saved, saved / "tokenizer.json")}

    assert digests == {byte_tokenizer().digest}


def test_a_hub_id_is_fetched_once_and_found_again_when_the_hub_is_gone(hub):
    address = f"http://127.0.0.1:{hub.server_port}"

    fetched = tokenizer_from("somebody/something", endpoint=address)
    hub.shutdown()
    hub.server_close()
    again = tokenizer_from("somebody/something", endpoint=address)

    assert fetched.digest == again.digest == byte_tokenizer().digest


def test_a_hub_that_does_not_answer_is_a_remote_error_that_names_the_repository(hub):
    address = f"http://127.0.0.1:{hub.server_port}"
    hub.shutdown()
    hub.server_close()

    with pytest.raises(RemoteError, match="somebody/nothing"):
        tokenizer_from("somebody/nothing", endpoint=address)


def test_a_repository_without_a_fast_tokenizer_is_refused(hub, saved):
    (saved / "tokenizer.json").unlink()

    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        tokenizer_from("somebody/old", endpoint=f"http://127.0.0.1:{hub.server_port}")


@pytest.mark.parametrize("reference", ["nothing-here", "./a/b/c", "tokenizer.json", ""])
def test_what_can_be_no_hub_id_never_reaches_for_the_hub(reference, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError):
        tokenizer_from(reference, endpoint=f"http://127.0.0.1:{hub.server_port}")
