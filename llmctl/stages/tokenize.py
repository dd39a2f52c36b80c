"""Corpora -> one tokenizer, and the tokens of each corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmctl.config import dry_run_knob, force_knob, identity, knob, name_knob, parse_count
from llmctl.console import console
from llmctl.errors import ConfigError, DataError
from llmctl.figures import count, size

if TYPE_CHECKING:
    from llmctl.workspace import Artifact, Input, Workspace

# A vocabulary that a corpus can fill with merges worth having: bytes of text -> entries.
VOCABULARIES = ((2e6, 2048), (2e7, 4096), (2e8, 8192), (2e9, 16384))
LARGEST_VOCABULARY = 32768
SAMPLE_BYTES = 100 * 2**20
# Of fewer a mean loss is chance: one paragraph decides it.
LEAST_HELD_OUT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenize:
    """Train a tokenizer, and turn corpora into tokens."""

    from_: tuple[str, ...] = knob(
        (),
        help="The corpora; all by default, cleaned ones in place of raw",
        panel="Input",
        metavar="CORPUS",
    )
    tokenizer: str | None = knob(
        None,
        help="Use this one: a NAME, a folder, a tokenizer.json or a hub id",
        panel="Input",
        metavar="NAME|DIR|ID",
    )
    validation: str = knob(
        "0.01",
        help="The share of the text that is held out, or the file or corpus to validate on",
        panel="Input",
        metavar="SHARE|FILE|CORPUS",
    )
    vocab_size: int | None = knob(
        None, help="Entries, specials included; follows the text", panel="Text", parse=parse_count
    )
    level: Literal["bpe", "byte"] = knob(
        "bpe", help="Merge bytes into tokens, or take bytes as they are", panel="Text"
    )
    split: Literal["gpt4", "gpt2"] = knob(
        "gpt4", help="How text is cut into words before merging", panel="Text", rare=True
    )
    tokenizer_name: str = knob(
        "default", help="What to call the tokenizer", panel="Output", metavar="NAME"
    )
    name: str | None = name_knob("The tokens; the corpus's name by default (one corpus only)")
    force: bool = force_knob()
    dry_run: bool = dry_run_knob()


def run(config: Tokenize, workspace: Workspace) -> Artifact | dict[str, Any]:
    """Train or take a tokenizer, then make `tokens/NAME` of every corpus; the last one is returned.

    >>> run(Tokenize(from_=("wikipedia",)), workspace).facts["bytes_per_token"]
    4.1
    """
    corpora = [workspace.take("corpus", name) for name in config.from_] or _all(workspace)
    if config.name and len(corpora) > 1:
        raise ConfigError(
            f"`--name` can name one tokens artifact, not {len(corpora)}",
            hint="choose one corpus with `--from`",
        )
    # What is wrong with it is told before a tokenizer is trained.
    _validation(config, workspace)
    if config.dry_run:
        names = [config.name or corpus.name for corpus in corpora]
        for name in names:
            workspace.check_name(name)
        console.say(f"would make {', '.join(f'tokens/{name}' for name in names)}")
        total = sum(corpus.facts["bytes"] for corpus in corpora)
        return {"plan": {"kind": "tokens", "names": names, "bytes": total}}
    tokenizer = _tokenizer(config, workspace, corpora)
    made: list[Artifact] = []
    for corpus in corpora:
        made.append(_tokens(config, workspace, corpus, tokenizer))
    console.next("llmctl pretrain")
    return made[-1]


def _all(workspace: Workspace) -> list[Artifact]:
    """Every corpus but those of which there is a cleaned one."""
    workspace.newest("corpus")
    corpora = workspace.artifacts("corpus")
    cleaned = {
        made_from.name
        for one in corpora
        for made_from in one.manifest.inputs
        if made_from.kind == "corpus"
        if made_from.name not in one.manifest.config.get("against", ())
    }
    return [workspace.take("corpus", one.name) for one in corpora if one.name not in cleaned]


def _tokenizer(config: Tokenize, workspace: Workspace, corpora: Sequence[Artifact]) -> Artifact:
    """The tokenizer to use: the one named, or one trained on a sample of all the corpora."""
    from llmctl.data.tokenizer_hub import tokenizer_from
    from llmctl.data.tokenizer_training import byte_tokenizer, train_bpe
    from llmctl.workspace import Input

    if config.tokenizer in {one.name for one in workspace.artifacts("tokenizer")}:
        return workspace.take("tokenizer", config.tokenizer)
    given = tokenizer_from(config.tokenizer) if config.tokenizer else None
    wish: dict[str, Any] = {
        "level": config.level,
        "vocab_size": config.vocab_size,
        "split": config.split,
    }
    name = config.tokenizer_name
    inputs = [Input("source", str(config.tokenizer), given.digest)] if given else []
    made = None if config.force else _made_earlier(workspace, name, wish, inputs)
    if made:
        console.note(f"using {made.label}; `--force` trains a new one")
        return made
    if not given and config.level == "bpe":
        inputs = [one.as_input() for one in corpora]
    entries = _vocabulary(corpora) if config.vocab_size is None else config.vocab_size
    with workspace.draft(
        "tokenizer", name, config=wish, inputs=inputs, force=config.force
    ) as draft:
        with console.status("training the tokenizer"):
            if config.level == "byte" and given is None:
                given = byte_tokenizer()
            tokenizer = given or train_bpe(_sample(corpora), vocab_size=entries, split=config.split)
        tokenizer.save(draft.path)
        artifact = draft.finish(facts={"vocab_size": tokenizer.vocab_size})
    console.made(artifact, f"{tokenizer.vocab_size:,} entries")
    return artifact


def _made_earlier(
    workspace: Workspace, name: str, wish: dict[str, Any], given: list[Input]
) -> Artifact | None:
    """The tokenizer of that name, whatever text it was trained on: a new one fits no old model."""
    if not workspace.has("tokenizer", name):
        return None
    before = workspace.find("tokenizer", name).manifest.inputs
    return workspace.made("tokenizer", name, config=wish, inputs=given or before)


def _vocabulary(corpora: Sequence[Artifact]) -> int:
    total = sum(one.facts["bytes"] for one in corpora)
    return next((entries for most, entries in VOCABULARIES if total < most), LARGEST_VOCABULARY)


def _sample(corpora: Sequence[Artifact]) -> Iterator[str]:
    """Text to train on: of each corpus its beginning, up to an equal share of the sample."""
    from llmctl.data.encoding import read_texts
    from llmctl.shards import ShardReader

    for corpus in corpora:
        left = SAMPLE_BYTES // len(corpora)
        for _, texts in read_texts(ShardReader(corpus.path)):
            for text in texts:
                if left <= 0:
                    break
                told = text.as_py()
                left -= len(told)
                yield told


def _tokens(
    config: Tokenize, workspace: Workspace, corpus: Artifact, tokenizer: Artifact
) -> Artifact:
    from llmctl.data.encoders import encoder_for
    from llmctl.data.encoding import encode_corpus, lengths, open_side
    from llmctl.data.tokenizer import Tokenizer
    from llmctl.data.units import HoldOut
    from llmctl.shards import ShardReader, write_splits

    name = config.name or corpus.name
    share, held_out = _validation(config, workspace)
    settings: dict[str, Any] = {
        "config": {"validation": identity(config)["validation"]},
        "inputs": [corpus.as_input(), tokenizer.as_input(), *([held_out[1]] if held_out else [])],
    }
    made = None if config.force else workspace.made("tokens", name, **settings)
    if made:
        console.already_made(made)
        return made
    loaded = Tokenizer.load(tokenizer.path)
    reader = ShardReader(corpus.path)
    encoder = encoder_for(loaded, _sample([corpus]))
    if encoder.remark:
        console.warn(f"encoding with tokenizers, which is slower: {encoder.remark}")
    with workspace.draft("tokens", name, **settings, force=config.force) as draft:
        width: Any = "uint16" if loaded.dtype().itemsize == 2 else "uint32"
        with (
            console.progress(f"encoding {name}", total=corpus.facts["bytes"], unit="B") as bar,
            open_side(draft.path / "train", width) as train,
            open_side(draft.path / "validation", width) as validation,
        ):
            hold_out = HoldOut(share, lengths(reader) if share else ())
            encode_corpus(reader, encoder, (train, validation), hold_out, bar.advance)
            for names, texts in held_out[0] if held_out else ():
                validation.write(names, texts, encoder)
        for side, what in ((train, "train"), (validation, "validate")):
            if not side.text_bytes:
                draft.discard()
                raise DataError(
                    f"{corpus.label} is too little text: nothing is left to {what} on",
                    hint="collect more, or give `--validation` another share or a file",
                )
        write_splits(draft.path, ("train", "validation"))
        loaded.save(draft.path)
        facts = _facts(loaded, train, validation) | {"encoder": encoder.name}
        artifact = draft.finish(facts=facts)
    _report(artifact)
    return artifact


def _validation(
    config: Tokenize, workspace: Workspace
) -> tuple[float, tuple[Iterator[Any], Input] | None]:
    """The share to hold out, or zero and the texts of the file or corpus to validate on."""
    try:
        share = float(config.validation)
    except ValueError:
        return 0.0, _given_validation(config.validation, workspace)
    if not 0 < share < 1:
        raise ConfigError(
            f"`--validation {config.validation}` is no share of a text",
            hint="give a number between 0 and 1, a file, or the name of a corpus",
        )
    return share, None


def _given_validation(reference: str, workspace: Workspace) -> tuple[Iterator[Any], Input]:
    import pyarrow as pa

    from llmctl.data.document import Document
    from llmctl.data.encoding import read_texts
    from llmctl.data.sources.files import Files
    from llmctl.durable import fingerprint
    from llmctl.shards import ShardReader
    from llmctl.workspace import Input

    if not Path(reference).exists():
        corpus = workspace.take("corpus", reference)
        return read_texts(ShardReader(corpus.path)), corpus.as_input()
    source = Files(paths=(reference,))
    found = [
        one for part in source.parts() for one in source.read(part) if isinstance(one, Document)
    ]
    if not found:
        raise DataError(f"{reference} holds no text to validate on", hint="give another file")
    names = pa.array([one.id for one in found], pa.string())
    texts = pa.array([one.text for one in found], pa.string())
    path = Path(reference)
    digest = fingerprint(path)["sha256"] if path.is_file() else source.parts()[0].label
    return iter([(names, texts)]), Input("source", path.name, digest)


def _facts(tokenizer: Any, train: Any, validation: Any) -> dict[str, Any]:
    tokens = train.tokens + validation.tokens
    text_bytes = train.text_bytes + validation.text_bytes
    return {
        "vocab_size": tokenizer.vocab_size,
        "tokenizer": tokenizer.digest,
        "documents": train.documents + validation.documents,
        "tokens": tokens,
        "train_tokens": train.tokens,
        "validation_tokens": validation.tokens,
        "bytes": text_bytes,
        "train_bytes": train.text_bytes,
        "validation_bytes": validation.text_bytes,
        "bytes_per_token": round(text_bytes / max(1, tokens), 4),
    }


def _report(artifact: Artifact) -> None:
    from llmctl.data.tokenizer import GPT2_BYTES_PER_TOKEN

    facts = artifact.facts
    rate = facts["bytes_per_token"]
    console.made(artifact, f"{count(facts['tokens'])} tokens of {size(facts['bytes'])} of text")
    console.note(
        f"{rate:.2f} bytes a token (GPT-2 on web text: {GPT2_BYTES_PER_TOKEN}),"
        f" {count(facts['validation_tokens'])} tokens held out"
    )
    if facts["validation_tokens"] < LEAST_HELD_OUT:
        console.warn(
            f"{facts['validation_tokens']:,} tokens are too few to judge a model by:"
            " give `--validation` a larger share, or a file"
        )
