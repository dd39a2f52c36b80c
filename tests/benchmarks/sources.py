"""How fast and how well sources read: Wikipedia, web archives, main text of pages, Gutenberg.

Each figure stands beside a named peer, measured in the same run by the processor time of one core.
"""

import argparse
import gzip
import json
import re
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mwparserfromhell
from fastwarc.warc import ArchiveIterator, WarcRecordType

from llmctl.data.webpages import warc
from llmctl.data.webpages.extraction import Extractor
from llmctl.data.wikitext.dump import Page, read_dump
from llmctl.data.wikitext.rendering import render
from llmctl.data.wikitext.site import Site

COPIES = 60  # of the fragment of Common Crawl that is read


def seconds(work: Callable[[], Any], rounds: int) -> float:
    """The least processor time of some rounds."""
    times: list[float] = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def wikipedia(data: Path, rounds: int) -> None:
    """Rendering against the bare parser, in characters of wikitext a second."""
    site, texts = Site(), []
    for one in read_dump(data / "wikipedia/enwiki-pages-articles1-shortened.xml.bz2", 0, 0):
        if isinstance(one, Site):
            site = one
        elif isinstance(one, Page) and not one.redirect:
            texts.append(one.text)
    size = sum(map(len, texts)) / 1e6
    times = [
        (
            seconds(lambda: [len(render(text, site)) for text in texts], 1),
            # No tree is kept: collecting them as garbage takes as long as parsing.
            seconds(lambda: [len(mwparserfromhell.parse(text).nodes) for text in texts], 1),
        )
        for _ in range(rounds)
    ]  # by turns, as the machine is not the same from minute to minute
    ours, bare = (min(one) for one in zip(*times, strict=True))
    print(f"wikipedia: {len(texts)} articles, {size:.1f} M characters")
    print(f"  ours {size / ours:.2f} M/s, {len(texts) / ours:.0f} articles/s")
    print(f"  mwparserfromhell.parse alone {size / bare:.2f} M/s: {bare / ours:.2f} x")


def archives(data: Path, rounds: int) -> None:
    """Reading records against bare fastwarc, in unpacked bytes a second."""
    path = Path("build") / "bench.warc.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((data / "commoncrawl/cc-main-2020-34-fragment.warc.gz").read_bytes() * COPIES)

    def bare() -> int:
        with path.open("rb") as file:
            return sum(
                len(record.reader.read())
                for record in ArchiveIterator(file, record_types=WarcRecordType.response)
            )

    def ours() -> None:
        with path.open("rb") as file:
            for record in warc._records(file, "bench", path.stat().st_size):
                warc._payload(record)

    size = bare() / 1e6
    theirs, own = seconds(bare, rounds), seconds(ours, rounds)
    path.unlink()
    print(f"archives: {size:.0f} MB of pages")
    print(f"  ours {size / own:.0f} MB/s")
    print(f"  fastwarc alone {size / theirs:.0f} MB/s: {theirs / own:.2f} x")


def pages(data: Path) -> None:
    """F1 of the main text over 4-grams of words, and the time that it takes."""
    truth = json.loads(gzip.decompress((data / "extraction/ground-truth.json.gz").read_bytes()))
    contents: dict[str, bytes] = {}
    with tarfile.open(data / "extraction/pages.tar") as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            if file is not None:
                contents[Path(entry.name).name.partition(".")[0]] = gzip.decompress(file.read())
    for way in ("quality", "fast"):
        extractor = Extractor(way)
        start = time.process_time()
        texts = {name: extractor.extract(contents[name]).text for name in truth}
        spent = time.process_time() - start
        right = wrong = missed = 0.0
        for name, meant in truth.items():
            found, wanted = shingles(texts[name]), shingles(meant["articleBody"])
            total = (found | wanted).total() or 1
            right += (found & wanted).total() / total
            wrong += (found - wanted).total() / total
            missed += (wanted - found).total() / total
        score = 2 * right / (2 * right + wrong + missed)
        print(f"pages, {way}: F1 {score:.4f}, {len(truth) / spent:.0f} pages/s")


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """The runs of four words of a text."""
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[at : at + 4]) for at in range(max(len(words) - 3, 1)))


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    wikipedia(given.data, given.rounds)
    archives(given.data, given.rounds)
    pages(given.data)


if __name__ == "__main__":
    main()
