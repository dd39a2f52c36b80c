"""Which machines may be reached: public ones, and those that the user named.

An address in somebody's data, or a redirect, must not lead into the network of whoever runs
llmctl. A name is resolved once and the connection made to the address that was looked at, so
that a name that changes its mind in between gains nothing.
"""

import ipaddress
import socket
from urllib.request import getproxies, proxy_bypass

import httpx

from llmctl.errors import RemoteError

# IPv6 addresses within which an IPv4 address is reached (RFC 6052).
NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Barred(RemoteError):
    """An address leads to a private network, or is none that can be fetched."""


class Guarded(httpx.BaseTransport):
    """A transport that reaches public addresses and trusted hosts, by the proxies of the system.

    Behind a proxy names are not resolved here: there it is the proxy's to refuse, and only
    addresses written as numbers, and this machine, are refused.
    """

    def __init__(self, trusted: frozenset[str]) -> None:
        self.trusted = trusted
        # Connections are kept by address, and two names of one address must not share one.
        self._limits = httpx.Limits(max_keepalive_connections=0)
        self._verify = httpx.create_ssl_context()
        self._direct = self._transport(None)
        self._proxied: dict[str, httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on its way; raises Barred for one that leads where it must not."""
        url = request.url
        proxy = _proxy(url)
        if proxy:
            if not self._is_trusted(url) and _is_local(url.host):
                raise _barred(url.host)
            if proxy not in self._proxied:
                self._proxied[proxy] = self._transport(proxy)
            return self._proxied[proxy].handle_request(request)
        if self._is_trusted(url):
            return self._direct.handle_request(request)
        return self._pinned(request)

    def close(self) -> None:
        """Close all connections."""
        for transport in (self._direct, *self._proxied.values()):
            transport.close()

    def _transport(self, proxy: str | None) -> httpx.HTTPTransport:
        return httpx.HTTPTransport(verify=self._verify, limits=self._limits, proxy=proxy)

    def _is_trusted(self, url: httpx.URL) -> bool:
        return url.host in self.trusted or f"{url.host}:{_port(url)}" in self.trusted

    def _pinned(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        addresses = _resolve(url)
        if not all(map(is_public, addresses)):
            raise _barred(url.host)
        *others, last = addresses
        for address in others:
            try:
                return self._direct.handle_request(_to(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # one of several; perhaps there is no IPv6 here
        return self._direct.handle_request(_to(request, last))


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet at large.

    >>> is_public("8.8.8.8"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1")
    (True, False, False)
    """
    ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _innermost(ip: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


def _is_local(host: str) -> bool:
    try:
        return not is_public(_number(host) or host)
    except ValueError:
        return host.rstrip(".").rpartition(".")[2].lower() in ("localhost", "local", "internal")


def _number(host: str) -> str:
    """The IPv4 address that `0x7f.1` or `2130706433` is a spelling of, else nothing."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return ""


def _resolve(url: httpx.URL) -> list[str]:
    if number := _number(url.host):
        return [number]
    try:
        found = socket.getaddrinfo(url.host, _port(url), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"the name {url.host} is not known") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _to(request: httpx.Request, address: str) -> httpx.Request:
    """The same request, sent to an address; the name still decides about the certificate."""
    names = {"sni_hostname": request.url.host}
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,  # among them Host, which was set from the name
        stream=request.stream,
        extensions={**request.extensions, **names},
    )


def _proxy(url: httpx.URL) -> str | None:
    if proxy_bypass(url.host):
        return None
    known = getproxies()
    proxy = known.get(url.scheme) or known.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _barred(host: str) -> Barred:
    return Barred(
        f"{host} is no public address, and nobody but you may lead there",
        hint="if it is a host of yours that you mean, name it with `--trust`",
    )
