"""An archive that speaks OAI-PMH (openarchives.org, 2.0) -> the records of a day, page by page."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from llmctl.data.fetching.client import Client
from llmctl.errors import RemoteError

MOST_PAGE = 512 * 2**20
MOST_PAGES = 10_000


def records(client: Client, endpoint: str, day: str, **asked: str) -> Iterator[Any]:
    """The records that were added or changed on a day; raises RemoteError for a complaint."""
    asked = {**asked, "from": day, "until": day}
    for _ in range(MOST_PAGES):
        url = f"{endpoint}?{urlencode({'verb': 'ListRecords'} | asked)}"
        root = parsed(client.get(url, most=MOST_PAGE, seconds=900).content, url)
        error = root.find("{*}error")
        if error is not None:
            if error.get("code") == "noRecordsMatch":
                return
            raise RemoteError(f"{endpoint} says {error.get('code')}: {error.text}")
        yield from root.iter("{*}record")
        token = root.find(".//{*}resumptionToken")
        if token is None or not token.text:
            return
        asked = {"resumptionToken": token.text}


def parsed(content: bytes, where: str) -> Any:
    """The root of some XML, which may name no other file; RemoteError for what is none."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise RemoteError(f"{where} is no XML: {error}") from error
