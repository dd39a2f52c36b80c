"""Fetching: nothing lost, nothing doubled, nobody pestered, no way into one's own network."""

import gzip
import hashlib
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmctl.config import from_dict, identity, to_dict
from llmctl.data.fetching.addresses import Barred, Guarded, is_public
from llmctl.data.fetching.client import Client, Forbidden, Missing, TooLarge
from llmctl.data.fetching.download import Remote, download
from llmctl.data.fetching.network import Fetching, Network
from llmctl.data.fetching.robots import Robots
from llmctl.data.sources.books import Books
from llmctl.data.sources.commoncrawl import CommonCrawl
from llmctl.data.sources.given import on_disk
from llmctl.data.sources.papers import Papers
from llmctl.data.sources.webtext import WebText
from llmctl.data.sources.wikipedia import Wikipedia
from llmctl.errors import RemoteError

BODY = random.Random(5).randbytes(300_000)


def client(web: Any, **knobs: Any) -> Client:
    """A client that may reach the web of the test, and does not really wait."""
    return Client(**{"trusted": frozenset([web.host]), "sleep": lambda _: None} | knobs)


def fetch(web: Any, folder: Path, **knobs: Any) -> bytes:
    remote = Remote(url=f"{web.url}/file", **knobs)
    return download(client(web), remote, folder / "file").read_bytes()


def test_a_user_agent_says_who_asks_and_where_to_complain(web: Any):
    web.pages["/"] = b"hello"

    client(web, contact="me@example.org").get(f"{web.url}/")

    assert web.requests[0][1]["User-Agent"].startswith("llmctl/")
    assert "me@example.org" in web.requests[0][1]["User-Agent"]
    assert "pypi.org/project/llmctl" in web.requests[0][1]["User-Agent"]


def test_what_may_pass_is_tried_again(web: Any, faults: Any):
    web.pages["/"] = b"hello"
    web.faults["/"] = [faults["status"](503), faults["reset"], faults["status"](429), None]

    assert client(web).get(f"{web.url}/").content == b"hello"
    assert len(web.requests) == 4


def test_a_server_is_left_alone_for_as_long_as_it_asks(web: Any, faults: Any):
    web.pages["/"] = b"hello"
    web.faults["/"] = [faults["status"](503, Retry_After="7")]
    waits: list[float] = []

    client(web, sleep=waits.append).get(f"{web.url}/")

    assert 7.0 in waits
    assert max(waits) <= 7.0


def test_a_server_that_asks_for_a_day_gets_it(web: Any, faults: Any):
    web.always["/"] = faults["status"](503, Retry_After="86400")

    with pytest.raises(RemoteError, match="left alone for 1 d"):
        client(web).get(f"{web.url}/")

    assert len(web.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(403, Forbidden), (404, Missing), (410, Missing), (418, RemoteError)]
)
def test_no_means_no_at_the_first_time(web: Any, faults: Any, status: int, error: type[Exception]):
    web.always["/"] = faults["status"](status)

    with pytest.raises(error):
        client(web).get(f"{web.url}/")

    assert len(web.requests) == 1


def test_a_server_that_never_recovers_is_given_up(web: Any, faults: Any):
    web.always["/"] = faults["status"](500)

    with pytest.raises(RemoteError, match="500") as caught:
        client(web, tries=4).get(f"{web.url}/")

    assert len(web.requests) == 4
    assert "same command" in str(caught.value.hint)


def test_redirects_have_an_end(web: Any, faults: Any):
    web.always["/"] = faults["redirect"](f"{web.url}/")

    with pytest.raises(RemoteError, match="redirects"):
        client(web).get(f"{web.url}/")


def test_an_answer_has_a_size_and_a_time(web: Any, faults: Any):
    web.pages["/large"] = bytes(100_000)
    web.always["/slow"] = faults["drip"]
    started = time.monotonic()

    with pytest.raises(TooLarge):
        client(web).get(f"{web.url}/large", most=5000)
    with pytest.raises(RemoteError, match="longer"):
        client(web, tries=1).get(f"{web.url}/slow", seconds=0.2)

    assert time.monotonic() - started < 5


def test_an_answer_that_unpacks_without_end_is_too_large(web: Any, faults: Any):
    bomb = gzip.compress(bytes(50_000_000))
    web.always["/"] = lambda request: request.answer(200, bomb, {"Content-Encoding": "gzip"})

    with pytest.raises(TooLarge):
        client(web).get(f"{web.url}/", most=1_000_000)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "::",
    ],
)  # fmt: skip
def test_addresses_of_private_networks_are_known(address: str):
    assert not is_public(address)


def test_public_addresses_are_public():
    assert all(map(is_public, ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"]))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/", "http://localhost/", "http://0x7f000001/", "http://2130706433/",
        "http://[::1]/", "file:///etc/passwd", "ftp://127.0.0.1/", "http://", "http://a b/",
    ],
)  # fmt: skip
def test_nothing_leads_into_ones_own_network(url: str, web: Any):
    with pytest.raises(RemoteError):
        Client(sleep=lambda _: None, tries=1).get(url)

    assert web.requests == []


def test_a_redirect_leads_there_no_more_than_an_address(web: Any, faults: Any):
    hidden = web.server.server_port
    web.pages["/secret"] = b"secret"
    web.always["/"] = faults["redirect"](f"http://localhost:{hidden}/secret")

    with pytest.raises(Barred, match="localhost"):
        client(web).get(f"{web.url}/")

    assert web.asked("/secret") == []


def test_a_trusted_host_is_trusted_at_its_port_alone(web: Any):
    with pytest.raises(Barred):
        Client(trusted=frozenset(["127.0.0.1:1"])).get(f"{web.url}/")


def test_a_proxy_of_the_system_is_used_and_leads_no_way_in_either(
    web: Any, monkeypatch: pytest.MonkeyPatch
):
    web.always["http://books.example/emma.txt"] = lambda request: request.answer(200, b"Emma")
    monkeypatch.setenv("http_proxy", web.url)

    answer = Client(sleep=lambda _: None).get("http://books.example/emma.txt")

    assert answer.content == b"Emma"
    with pytest.raises(Barred):
        Client(sleep=lambda _: None).get("http://10.0.0.1/")
    assert len(web.requests) == 1


def test_the_name_decides_about_host_and_certificate_when_the_address_is_pinned(
    monkeypatch: pytest.MonkeyPatch,
):
    sent: list[httpx.Request] = []
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("93.184.216.34", 443))]
    )
    monkeypatch.setattr(
        httpx.HTTPTransport,
        "handle_request",
        lambda _, request: sent.append(request) or httpx.Response(200),
    )

    Guarded(frozenset()).handle_request(httpx.Request("GET", "https://example.org/a"))

    assert sent[0].url == "https://93.184.216.34/a"
    assert sent[0].headers["Host"] == "example.org"
    assert sent[0].extensions["sni_hostname"] == "example.org"


def test_a_download_goes_on_where_it_was_cut(web: Any, faults: Any, tmp_path: Path):
    web.pages["/file"] = BODY
    web.faults["/file"] = [faults["cut"](BODY, 100_000), faults["cut"](BODY, 50_000), None]

    assert fetch(web, tmp_path) == BODY
    assert [one.get("Range") for one in web.asked("/file")] == [
        None, "bytes=100000-", "bytes=150000-",
    ]  # fmt: skip


def test_patience_is_renewed_by_every_byte(web: Any, faults: Any, tmp_path: Path):
    web.pages["/file"] = BODY
    web.faults["/file"] = [faults["cut"](BODY, 20_000)] * 14

    assert fetch(web, tmp_path) == BODY


def test_a_file_that_has_changed_is_fetched_from_its_beginning(
    web: Any, faults: Any, tmp_path: Path
):
    other = BODY[::-1]
    web.pages["/file"] = other
    web.etags["/file"] = '"two"'
    web.faults["/file"] = [faults["cut"](BODY, 100_000, etag='"one"'), None]

    assert fetch(web, tmp_path) == other


def test_a_server_that_ignores_ranges_doubles_nothing(web: Any, faults: Any, tmp_path: Path):
    web.faults["/file"] = [faults["cut"](BODY, 100_000)]
    web.always["/file"] = lambda request: request.answer(200, BODY, {"ETag": '"one"'})

    assert fetch(web, tmp_path) == BODY


def test_a_server_without_a_name_for_the_file_is_asked_for_all_of_it(
    web: Any, faults: Any, tmp_path: Path
):
    web.faults["/file"] = [faults["cut"](BODY, 100_000, etag="")]
    web.always["/file"] = lambda request: request.answer(200, BODY)

    assert fetch(web, tmp_path) == BODY
    assert web.asked("/file")[1].get("Range") is None


def test_a_range_that_was_not_asked_for_is_not_taken(web: Any, faults: Any, tmp_path: Path):
    def shifted(request: Any) -> None:
        headers = {"Content-Range": f"bytes 5-{len(BODY) - 1}/{len(BODY)}", "ETag": '"one"'}
        request.answer(206, BODY[5:], headers)

    web.pages["/file"] = BODY
    web.faults["/file"] = [faults["cut"](BODY, 100_000), shifted, None]

    assert fetch(web, tmp_path) == BODY


def test_what_does_not_match_its_checksum_is_fetched_once_more_and_then_refused(
    web: Any, tmp_path: Path
):
    web.pages["/file"] = BODY
    right = hashlib.sha1(BODY).hexdigest()

    assert fetch(web, tmp_path / "a", digest=f"sha1:{right}", bytes=len(BODY)) == BODY
    with pytest.raises(RemoteError, match="sha1"):
        fetch(web, tmp_path / "b", digest=f"sha1:{'0' * 40}")
    with pytest.raises(RemoteError, match="bytes instead of"):
        fetch(web, tmp_path / "c", bytes=7)
    assert not (tmp_path / "b" / "file").exists()


def test_a_wrong_length_is_found(web: Any, tmp_path: Path):
    def short(request: Any) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY) + 10))
        request.end_headers()
        request.wfile.write(BODY)
        request.close_connection = True

    web.pages["/file"] = BODY
    web.faults["/file"] = [short, None]

    assert fetch(web, tmp_path) == BODY


def test_a_server_that_drips_is_no_better_than_one_that_is_silent(
    web: Any, faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("llmctl.data.fetching.download.LOOK_EVERY", 0.1)
    web.always["/file"] = faults["drip"]
    started = time.monotonic()

    with pytest.raises(RemoteError, match="came in"):
        fetch(web, tmp_path)

    assert time.monotonic() - started < 10
    web.always.clear()
    web.pages["/file"] = BODY
    assert fetch(web, tmp_path) == BODY


def test_a_killed_download_goes_on_in_the_next_process(web: Any, faults: Any, tmp_path: Path):
    def stalling(request: Any) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.send_header("ETag", '"one"')
        request.end_headers()
        request.wfile.write(BODY[:100_000])
        request.wfile.flush()
        child.send_signal(signal.SIGKILL)

    web.pages["/file"] = BODY
    web.faults["/file"] = [stalling]
    code = (
        "from pathlib import Path\n"
        "from llmctl.data.fetching.client import Client\n"
        "from llmctl.data.fetching.download import Remote, download\n"
        f"client = Client(trusted=frozenset(['{web.host}']))\n"
        f"download(client, Remote(url='{web.url}/file'), Path(r'{tmp_path}') / 'file')\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    child.wait(timeout=30)

    assert child.returncode == -signal.SIGKILL
    assert fetch(web, tmp_path) == BODY


def test_several_who_want_a_file_fetch_it_once(web: Any, tmp_path: Path):
    web.pages["/file"] = BODY
    threads = [threading.Thread(target=fetch, args=(web, tmp_path)) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(web.asked("/file")) == 1


def test_requests_to_a_host_keep_their_distance(web: Any):
    web.pages["/"] = b"hello"
    polite = client(web, pause=0.15, sleep=time.sleep, connections=1)

    for _ in range(3):
        polite.get(f"{web.url}/")

    moments = [moment for _, _, moment in web.requests]
    assert moments[2] - moments[0] >= 0.28


def test_no_more_than_three_connections_stand_at_a_time(web: Any):
    here, most = [0], [0]
    lock = threading.Lock()

    def slow(request: Any) -> None:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
        time.sleep(0.05)
        with lock:
            here[0] -= 1
        request.answer(200, b"hello")

    web.always["/"] = slow
    threads = [
        threading.Thread(target=lambda: client(web, sleep=time.sleep).get(f"{web.url}/"))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 < most[0] <= 3


def test_robots_txt_is_obeyed_and_asked_for_once(web: Any):
    web.pages["/robots.txt"] = b"User-agent: *\nDisallow: /private\nCrawl-delay: 4\n"
    robots = Robots(client(web))

    assert robots.allows(f"{web.url}/page")
    assert not robots.allows(f"{web.url}/private/page")
    assert robots.delay(f"{web.url}/page") == 4.0
    assert len(web.requests) == 1


def test_no_robots_txt_allows_all_and_a_broken_one_nothing(web: Any, faults: Any):
    assert Robots(client(web)).allows(f"{web.url}/page")

    web.always["/robots.txt"] = faults["status"](500)
    assert not Robots(client(web, tries=2)).allows(f"{web.url}/page")


def test_a_server_that_answers_no_head_leaves_the_size_open(web: Any, faults: Any):
    web.faults["/file"] = [faults["status"](405)]

    assert client(web).length(f"{web.url}/file") == 0


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/..%2f..%2fetc", "/.bashrc", "/", "/" + "x" * 400]
)
def test_a_name_from_an_address_stays_in_its_folder(web: Any, tmp_path: Path, path: str):
    web.always[path] = lambda request: request.answer(200, b"here")
    web.always[path.partition("..")[0] or "/"] = lambda request: request.answer(200, b"here")
    web.always["/etc/passwd"] = lambda request: request.answer(200, b"here")
    network = Network(downloads=tmp_path / "kept")

    found = on_disk(f"{web.url}{path}", network, named=(web.url,))

    assert found.parent == tmp_path / "kept"
    assert found.read_bytes() == b"here"


@pytest.mark.parametrize(
    "source",
    [Wikipedia(), CommonCrawl(), Books(), Papers(), WebText(input_="a.jsonl")],
)
def test_every_source_that_fetches_is_told_where_and_travels_to_other_processes(
    source: Any, tmp_path: Path
):
    told = source.fetching_into(tmp_path)

    assert isinstance(source, Fetching)
    assert told.network.downloads == tmp_path
    assert identity(told) == identity(source)
    assert pickle.loads(pickle.dumps(told)) == told
    assert from_dict(type(source), to_dict(source)) == source


@pytest.mark.parametrize("make", [Wikipedia, CommonCrawl, Books, Papers])
def test_what_lies_on_disk_is_listed_anew_by_each_attempt(make: Any, tmp_path: Path):
    source = make(input_="somewhere/here")

    assert source.fetching_into(tmp_path) is source
    assert make(input_="https://example.org/x").fetching_into(tmp_path) is not source
