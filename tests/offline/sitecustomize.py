"""Refuses every network connection but to this machine.

Python imports a file of this name as it starts, wherever it stands on the path: so the block
holds in each Python process that a test starts, unless its PYTHONPATH is taken away.
"""

import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

ONLINE = "LLMCTL_TESTS_ONLINE"


class BlockedConnection(BaseException):
    """Not an Exception: code that shrugs off a failed connection must not hide that it tried."""


def _check(host: Any) -> None:
    local = {None, "", "localhost", socket.gethostname()}
    name = host.decode() if isinstance(host, bytes) else host
    if name in local or os.environ.get(ONLINE):
        return
    try:
        is_loopback = ipaddress.ip_address(name).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise BlockedConnection(f"a test reached for {name}; mark it `network` if it must")


def _guard_socket(method: str) -> None:
    real: Callable[..., Any] = getattr(socket.socket, method)

    def guarded(self: socket.socket, *arguments: Any) -> Any:
        if isinstance(arguments[-1], tuple):
            _check(arguments[-1][0])
        return real(self, *arguments)

    setattr(socket.socket, method, guarded)


def _guard_look_up(function: str) -> None:
    real: Callable[..., Any] = getattr(socket, function)

    def guarded(host: Any, *arguments: Any, **named: Any) -> Any:
        _check(host)
        return real(host, *arguments, **named)

    setattr(socket, function, guarded)


for _method in ("connect", "connect_ex", "sendto"):
    _guard_socket(_method)
for _function in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    _guard_look_up(_function)
