"""What the robots.txt of a host allows us, asked once a host (RFC 9309)."""

from urllib.parse import urlsplit

from protego import Protego

from llmctl.data.fetching.addresses import Barred
from llmctl.data.fetching.client import Client, Missing
from llmctl.errors import RemoteError

MOST = 512 * 1024  # bytes of which heed must be taken (RFC 9309, 2.5)
SECONDS = 15.0
AGENT = "llmctl"


class Robots:
    """The rules of hosts for us; a host that cannot say them allows nothing.

    Raises Barred for a host that must not be reached.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rules: dict[str, Protego | None] = {}

    def allows(self, url: str) -> bool:
        """Whether an address may be fetched."""
        rules = self._of(url)
        return rules is not None and rules.can_fetch(url, AGENT)

    def answers(self, url: str) -> bool:
        """Whether the host of an address said anything at all."""
        return self._of(url) is not None

    def delay(self, url: str) -> float:
        """The seconds between two requests that the host asks for; 0 where it does not."""
        rules = self._of(url)
        return float(rules.crawl_delay(AGENT) or 0.0) if rules is not None else 0.0

    def _of(self, url: str) -> Protego | None:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._rules:
            self._rules[origin] = self._fetched(f"{origin}/robots.txt")
        return self._rules[origin]

    def _fetched(self, url: str) -> Protego | None:
        try:
            answer = self._client.get(url, most=MOST, seconds=SECONDS)
        except Missing:
            return Protego.parse("")
        except Barred:
            raise
        except RemoteError:
            return None
        return Protego.parse(answer.content.decode("utf-8", "replace"))
