"""Reading, encoding and writing of `llmctl tokenize`, in process, beside bare encoders.

    python tests/benchmarks/tokenize_speed.py --bench BENCH [--repeat 4]

Reads the corpus of BENCH/novels `--repeat` times (4 are 250 MB). The bare rate of the fast encoder
is over the same arrays, the one of `tokenizers.encode_batch` over the first megabytes.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from llmctl.data.encoders import encoder_for
from llmctl.data.encoding import encode_corpus, lengths, open_side, read_texts
from llmctl.data.tokenizer import Tokenizer
from llmctl.data.units import HoldOut
from llmctl.shards import ShardReader

BARE_BYTES = 4 * 2**20


def main() -> None:
    """Print megabytes a second of each, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=4)
    given = parser.parse_args()
    workspace = given.bench / "novels" / "workspace"
    tokenizer = Tokenizer.load(workspace / "tokenizers" / "default")
    corpus = ShardReader(workspace / "corpora" / "train")
    texts = [text for _, text in read_texts(corpus)]
    size = sum(text.nbytes for text in texts)
    encoder = encoder_for(tokenizer, ())
    encoder.encode(texts[0])

    began = time.perf_counter()
    for text in texts:
        encoder.encode(text)
    bare = size / (time.perf_counter() - began) / 1e6

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        hold_out = HoldOut(0.01, lengths(corpus))
        with (
            open_side(Path(name) / "train", "uint16") as train,
            open_side(Path(name) / "validation", "uint16") as validation,
        ):
            for _ in range(given.repeat):
                encode_corpus(corpus, encoder, (train, validation), hold_out, lambda _: None)
        whole = given.repeat * size / (time.perf_counter() - began) / 1e6

    sample = [text[start : start + 5000] for text in _first(texts) for start in _steps(text)]
    began = time.perf_counter()
    tokenizer.verbatim.encode_batch(sample, add_special_tokens=False)
    slow = sum(map(len, sample)) / (time.perf_counter() - began) / 1e6
    print(f"{given.repeat * size / 1e6:.0f} MB of text, encoder {encoder.name}")
    print(f"read + encode + write   {whole:8.1f} MB/s")
    print(f"bare {encoder.name:18} {bare:8.1f} MB/s   ours is {whole / bare:.0%} of it")
    print(f"tokenizers.encode_batch {slow:8.1f} MB/s   ours is {whole / slow:.0f} x it")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f} MB")


def _first(texts: list) -> list[str]:
    found, left = [], BARE_BYTES
    for array in texts:
        for text in array.to_pylist():
            if left > 0:
                found.append(text[:left])
                left -= len(text)
    return found


def _steps(text: str) -> range:
    return range(0, len(text), 5000)


if __name__ == "__main__":
    main()
