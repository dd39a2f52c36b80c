"""Whether cleaning pays: the same small model for the same tokens on raw text and on cleaned text.

    python tests/benchmarks/clean_pays.py build --data ../shared/data --out BENCH/pays
    python tests/benchmarks/clean_pays.py train --out BENCH/pays [--seeds 0,1,2] [--arms raw,rules]
    python tests/benchmarks/clean_pays.py table --out BENCH/pays

The raw text is real (C4, Wikipedia, Stack Exchange, whole pages of news sites with all that stands
around their articles, chapters of novels) and made dirty the way a crawl is, by a seed: copies
that differ in what stands around them, boilerplate of real pages, pages of other languages,
keyword spam, menus, lost characters. Held-out text is of other articles and other novels. All arms
share a tokenizer, a model and a number of tokens; the score is bits per byte of held-out text.
"""

import argparse
import gzip
import json
import random
import statistics
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resiliparse.extract.html2text import extract_plain_text

from llmctl.data.document import Document
from llmctl.data.sources.webtext import WebText
from llmctl.data.sources.wikipedia import Wikipedia

# What each arm gives `clean` besides the corpus; the raw text is not cleaned at all.
ARMS: dict[str, tuple[str, ...] | None] = {
    "raw": None,
    "rules": ("--no-exact", "--similarity", "0"),
    "dedup": (),
    "quality": ("--reference", "reference"),
    "english": ("--language", "en"),
    "english-quality": ("--language", "en", "--reference", "reference"),
}
NOVEL_CHARACTERS, CHAPTER_CHARACTERS = 40_000, 8_000
HELD_OUT_CHARACTERS = 12_000
HELD_OUT_NOVELS, REFERENCE_NOVELS, RAW_NOVELS = 12, 20, 40
BOILERPLATE_SHARE, COPIED_SHARE, BROKEN_SHARE = 0.6, 0.3, 0.04
MOST_COPIES = 14
SPAM_PAGES, MENU_PAGES = 1200, 500


@dataclass(frozen=True, slots=True)
class Piece:
    """A text, where it is from, and what it is: good, copy, spam, menu, foreign."""

    id: str
    text: str
    sort: str


def main() -> None:
    """Build, train or tell, as asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("build", "train", "table"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--tokens", default="1500000")
    parser.add_argument("--params", default="1.5e6")
    given = parser.parse_args()
    match given.step:
        case "build":
            build(given.data, given.out)
        case "train":
            train(given)
        case _:
            table(given.out)


def build(data: Path, out: Path) -> None:
    """Corpora of all arms and their tokens."""
    draw = random.Random(5)
    articles = list(wikipedia(data))
    held_out = [one for number, one in enumerate(articles) if number % 5 == 0]
    known = [one for number, one in enumerate(articles) if number % 5 == 1]
    rest = [one for number, one in enumerate(articles) if number % 5 > 1]
    novels = list(chapters(data, HELD_OUT_NOVELS + REFERENCE_NOVELS + RAW_NOVELS))
    first, second = HELD_OUT_NOVELS, HELD_OUT_NOVELS + REFERENCE_NOVELS
    held_out += [one for number, one in novels if number < first][::4]
    held_out = [replace(one, text=one.text[:HELD_OUT_CHARACTERS]) for one in held_out]
    known += [one for number, one in novels if first <= number < second]
    good = [*rest, *(one for number, one in novels if number >= second)]
    good += [*c4(data), *answers(data), *pages(data)]
    raw = dirty(good, junk(data, draw), boilerplate(data), draw)
    out.mkdir(parents=True, exist_ok=True)
    for name, pieces in (("raw", raw), ("held-out", held_out), ("reference", known)):
        write(out / f"{name}.jsonl", pieces)
        llmctl(out, "collect", "files", str(out / f"{name}.jsonl"), "--name", name)
    by_sort: dict[str, int] = {}
    for one in raw:
        by_sort[one.sort] = by_sort.get(one.sort, 0) + len(one.text)
    print("raw text, MB by sort:", {key: round(size / 1e6, 2) for key, size in by_sort.items()})
    llmctl(out, "tokenize", "--from", "raw", "--validation", "held-out", "--vocab-size", "4096")
    for arm, flags in ARMS.items():
        if flags is not None:
            facts = llmctl(out, "clean", "--from", "raw", "--name", arm, *flags)["facts"]
            told = {one["rule"]: one["documents"] for one in facts["funnel"]}
            print(f"{arm}: {facts['documents']} documents, {facts['bytes'] / 1e6:.1f} MB;", told)
            llmctl(out, "tokenize", "--from", arm, "--validation", "held-out",
                   "--tokenizer", "default")  # fmt: skip


def train(given: argparse.Namespace) -> None:
    """A run an arm and seed, unless it has been made already; a line each."""
    for seed in given.seeds.split(","):
        for arm in given.arms.split(","):
            place = given.out / f"score-{arm}-{seed}.json"
            if place.exists():
                continue
            made = llmctl(
                given.out, "pretrain", "--from", arm, "--params", given.params, "--tokens",
                given.tokens, "--seed", seed, "--name", f"{arm}-{seed}",
                "--eval-tokens", "1e9",
            )  # fmt: skip
            facts = made["facts"]
            place.write_text(json.dumps(facts))
            print(f"{arm:16} seed {seed}: {facts['val_bits_per_byte']:.4f} bits per byte,"
                  f" {facts['seconds']:.0f} s", flush=True)  # fmt: skip


def table(out: Path) -> None:
    """The scores of all arms, and each beside raw with the same seed."""
    scores = {
        tuple(path.stem.removeprefix("score-").rsplit("-", 1)): json.loads(path.read_text())
        for path in sorted(out.glob("score-*.json"))
    }
    raw = {seed: one["val_bits_per_byte"] for (arm, seed), one in scores.items() if arm == "raw"}
    for arm in ARMS:
        mine = {
            seed: one["val_bits_per_byte"] for (name, seed), one in scores.items() if name == arm
        }
        if mine:
            told = ", ".join(f"{one:.3f}" for one in mine.values())
            gains = [1 - one / raw[seed] for seed, one in mine.items() if seed in raw]
            print(f"{arm:16} {statistics.mean(mine.values()):.3f} ({told})"
                  f"  {statistics.mean(gains):+.1%} against raw")  # fmt: skip


def dirty(
    good: Sequence[Piece], junk: Sequence[Piece], lines: Sequence[str], draw: random.Random
) -> list[Piece]:
    """Good text among junk, with what crawls put around it, and again and again."""
    found = list(junk)
    for one in good:
        many = 1
        if draw.random() < COPIED_SHARE:
            many += min(MOST_COPIES, int(draw.paretovariate(0.9)))
        for number in range(many):
            text = one.text if number == 0 else altered(one.text, draw)
            if draw.random() < BOILERPLATE_SHARE:
                text = surrounded(text, lines, draw)
            if draw.random() < BROKEN_SHARE:
                text = broken(text, draw)
            sort = "copy" if number else one.sort
            found.append(Piece(f"{one.id}#{number}", text, sort))
    draw.shuffle(found)
    return found


def altered(text: str, draw: random.Random) -> str:
    """A copy as mirrors have it: the same, or a few words changed, or its end left out."""
    match draw.randrange(3):
        case 0:
            return text
        case 1:
            words = text.split(" ")
            for _ in range(max(1, len(words) // 100)):
                words[draw.randrange(len(words))] = draw.choice(words)
            return " ".join(words)
        case _:
            return text[: int(len(text) * draw.uniform(0.9, 1.0))]


def surrounded(text: str, lines: Sequence[str], draw: random.Random) -> str:
    """A text with the lines of some site before and behind it."""
    before = draw.sample(lines, draw.randint(2, 12))
    behind = draw.sample(lines, draw.randint(2, 20))
    return "\n".join([*before, text, *behind])


def broken(text: str, draw: random.Random) -> str:
    """A text of which some characters were lost on the way."""
    return "".join("\ufffd" if draw.random() < 0.03 else one for one in text)


def junk(data: Path, draw: random.Random) -> list[Piece]:
    """Spam, menus, code, and pages in other languages."""
    shop = (
        "buy cheap best online free discount sale price review top new order now shipping".split()
    )
    goods = (
        "viagra casino poker loans insurance replica watches handbags shoes essay hosting".split()
    )
    towns = "london paris berlin chicago houston dallas miami denver boston seattle austin".split()
    found: list[Piece] = []
    for number in range(SPAM_PAGES):
        mine = draw.sample(goods, 3) + draw.sample(towns, 3) + draw.sample(shop, 6)
        lines = [" ".join(draw.choices(mine, k=draw.randint(4, 30))) for _ in range(40)]
        found.append(Piece(f"spam/{number}", "\n".join(lines), "spam"))
    menu = boilerplate(data)
    for number in range(MENU_PAGES):
        lines = draw.choices(menu, k=draw.randint(20, 120))
        found.append(Piece(f"menu/{number}", "\n".join(lines), "menu"))
    found += [Piece(one.id, one.text, "foreign") for one in foreign(data)]
    return found


def foreign(data: Path) -> Iterator[Document | Piece]:
    """Pages in a hundred other languages, and a Wikipedia of one of them."""
    dump = data / "wikipedia" / "ltgwiki-latest-pages-articles.xml"
    yield from documents(Wikipedia(input_=str(dump)))
    with zipfile.ZipFile(data / "langid" / "udhr2.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".txt") and "eng" not in name:
                text = archive.read(name).decode("utf-8", "replace")
                yield Piece(f"udhr/{name}", text, "foreign")
    for name in ("22367-8.txt", "4650-8.txt"):
        text = (data / "books" / "gutenberg" / name).read_text(encoding="latin-1")
        for start in range(0, len(text), CHAPTER_CHARACTERS):
            yield Piece(f"{name}@{start}", text[start : start + CHAPTER_CHARACTERS], "foreign")


def wikipedia(data: Path) -> Iterator[Piece]:
    """English articles."""
    for name in ("enwiki-pages-articles1-shortened.xml.bz2", "minidump-enwiki.xml.bz2"):
        source = Wikipedia(input_=str(data / "wikipedia" / name))
        for one in documents(source):
            if len(one.text) > 500:
                yield Piece(one.id, one.text, "article")


def answers(data: Path) -> Iterator[Piece]:
    """Questions with their best answers."""
    for name in ("coffee", "matheducators"):
        place = data / "webtext" / f"{name}.stackexchange.Posts.xml"
        for one in documents(WebText(stackexchange=str(place))):
            yield Piece(one.id, one.text, "answer")


def c4(data: Path) -> Iterator[Piece]:
    """Pages of C4."""
    for line in (data / "commoncrawl" / "c4_demo.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        yield Piece(str(row.get("url", row["text"][:40])), row["text"], "page")


def pages(data: Path) -> Iterator[Piece]:
    """Pages of news sites, with all the text that is on them, as WET files have it."""
    for name, text in whole_pages(data):
        yield Piece(f"news/{name}", text, "whole page")


def boilerplate(data: Path) -> list[str]:
    """The lines of those pages that are no part of their articles."""
    truth = json.loads(gzip.decompress((data / "extraction" / "ground-truth.json.gz").read_bytes()))
    found: set[str] = set()
    for name, text in whole_pages(data):
        article = truth.get(name, {}).get("articleBody", "")
        found |= {line for line in text.splitlines() if line and line not in article}
    return sorted(line for line in found if len(line) < 200)


def whole_pages(data: Path) -> Iterator[tuple[str, str]]:
    """Name and visible text of each page."""
    with tarfile.open(data / "extraction" / "pages.tar") as archive:
        for entry in archive:
            file = archive.extractfile(entry) if entry.isfile() else None
            if file is not None:
                page = gzip.decompress(file.read()).decode("utf-8", "replace")
                name = Path(entry.name).name.removesuffix(".html.gz")
                yield name, extract_plain_text(page, main_content=False)


def chapters(data: Path, novels: int) -> Iterator[tuple[int, Piece]]:
    """The beginnings of so many novels, in chapters, behind their titles and openings."""
    with tarfile.open(data / "books" / "92_english_novels.tar.xz") as archive:
        names = sorted(one.name for one in archive.getmembers() if one.isfile())
        random.Random(3).shuffle(names)
        for number, name in enumerate(names[:novels]):
            file = archive.extractfile(name)
            assert file is not None
            text = file.read().decode("utf-8", "replace")[2000 : 2000 + NOVEL_CHARACTERS * 3]
            for start in range(0, len(text), CHAPTER_CHARACTERS):
                piece = text[start : start + CHAPTER_CHARACTERS]
                yield number, Piece(f"{Path(name).stem}@{start}", piece, "chapter")


def documents(source: Any) -> Iterator[Document]:
    """The documents of a source."""
    for part in source.parts():
        for one in source.read(part):
            if isinstance(one, Document):
                yield one


def write(path: Path, pieces: Iterable[Piece]) -> None:
    """Pieces as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for one in pieces:
            file.write(json.dumps({"id": one.id, "text": one.text, "sort": one.sort}) + "\n")


def llmctl(out: Path, *words: str) -> dict[str, Any]:
    """What a command says under `--json`."""
    command = [sys.executable, "-m", "llmctl", *words, "--json", "--workspace", str(out / "w")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stdout or done.stderr}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
