import re
import socket
import subprocess
import sys

import pytest

ELSEWHERE = "192.0.2.1"  # set aside for documents: no machine of the world answers there


def test_a_test_cannot_reach_another_machine():
    with pytest.raises(BaseException, match=f"a test reached for {re.escape(ELSEWHERE)}"):
        socket.create_connection((ELSEWHERE, 80), timeout=1)


def test_a_test_cannot_look_up_another_machine():
    with pytest.raises(BaseException, match=r"a test reached for example\.org"):
        socket.getaddrinfo("example.org", 443)


def test_a_process_that_a_test_starts_cannot_either():
    code = f"import socket; socket.create_connection(('{ELSEWHERE}', 80), timeout=1)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "a test reached for 192.0.2.1" in done.stderr


def test_a_test_may_talk_to_its_own_machine():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = ("localhost", server.getsockname()[1])
        with socket.create_connection(address, timeout=5) as client:
            assert client.getpeername()[0] == "127.0.0.1"
