"""Shared data -> the workspaces and binary files that the benchmarks read.

    python tests/benchmarks/prepare.py --data ../shared/data --out BENCH

Makes BENCH/shakespeare and BENCH/novels: text, a workspace of llmctl's, and for nanoGPT-like peers
train.bin and val.bin (65 characters for Shakespeare, our BPE 8192 for the novels).
"""

import argparse
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

from llmctl.data.tokenizer import Tokenizer
from llmctl.shards import ShardReader

HELD_OUT_NOVELS = 8


def main() -> None:
    """Prepare what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    shakespeare(given.data / "books" / "tinyshakespeare.txt", given.out / "shakespeare")
    novels(given.data / "books" / "92_english_novels.tar.xz", given.out / "novels")


def shakespeare(source: Path, out: Path) -> None:
    """NanoGPT's own split: the first 90 % of the characters train."""
    out.mkdir(parents=True, exist_ok=True)
    text = source.read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    (out / "train.txt").write_text(text[:cut], encoding="utf-8")
    (out / "val.txt").write_text(text[cut:], encoding="utf-8")
    characters = sorted(set(text))
    ids = np.array([characters.index(one) for one in text], dtype=np.uint16)
    ids[:cut].tofile(out / "train.bin")
    ids[cut:].tofile(out / "val.bin")
    describe(out, vocab_size=len(characters), val_bytes=len(text[cut:].encode()))
    tokenized(out, out / "train.txt", out / "val.txt", "--level", "byte")


def novels(source: Path, out: Path) -> None:
    """The eight novels whose names come last are held out."""
    train, held_out = out / "train", out / "val"
    for folder in (train, held_out):
        folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(source) as archive:
        members = sorted((one for one in archive if one.isfile()), key=lambda one: one.name)
        for index, member in enumerate(members):
            folder = held_out if index >= len(members) - HELD_OUT_NOVELS else train
            file = archive.extractfile(member)
            assert file is not None
            (folder / Path(member.name).name).write_bytes(file.read())
    tokenized(out, train, held_out, "--vocab-size", "8192")
    tokens = out / "workspace" / "tokens" / "train"
    for split, name in (("train", "train.bin"), ("validation", "val.bin")):
        batches = ShardReader(tokens / split)
        ids = [batch.column("ids").flatten().to_numpy() for batch in batches]
        np.concatenate(ids).tofile(out / name)
    facts = json.loads((tokens / "manifest.json").read_text())["facts"]
    vocab_size = Tokenizer.load(tokens).vocab_size
    describe(out, vocab_size=vocab_size, val_bytes=facts["validation_bytes"])


def describe(out: Path, **facts: int) -> None:
    """Write what a peer must know of the binary files."""
    (out / "meta.json").write_text(json.dumps(facts), encoding="utf-8")


def tokenized(out: Path, train: Path, held_out: Path, *flags: str) -> None:
    """Collect and tokenize into a workspace of llmctl's."""
    llmctl = [sys.executable, "-m", "llmctl"]
    place = ["--workspace", str(out / "workspace")]
    subprocess.run([*llmctl, "collect", "files", str(train), *place], check=True)
    validation = ["--validation", str(held_out)]
    subprocess.run([*llmctl, "tokenize", *validation, *flags, *place], check=True)


if __name__ == "__main__":
    main()
