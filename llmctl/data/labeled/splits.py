"""Rows -> the sides of a split: by a hash of the text and the seed, so that it is for ever.

Texts that are alike but for case, blanks and punctuation stand on one side. Which side does not
depend on the order of a file; more rows move few of those that were there.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from llmctl.errors import ConfigError, DataError

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")

Row = TypeVar("Row")


def normal_form(text: str) -> str:
    """The text without what nobody reads: case, kinds of blanks, forms of one letter.

    >>> normal_form("Win  a\\nPRIZE!")
    'win a prize!'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def side_form(text: str) -> str:
    """What texts must share to stand on one side: the words alone, where there are any.

    >>> side_form("Win a PRIZE!!!")
    'win a prize'
    """
    normal = normal_form(text)
    return " ".join(re.findall(r"\w+", normal)) or normal


def check_shares(validation: float, test: float) -> None:
    """Raise ConfigError for shares that leave nothing to train on."""
    if min(validation, test) < 0 or validation + test >= 1:
        raise ConfigError(
            f"shares of {validation:g} for `validation` and {test:g} for `test` leave nothing to "
            "train on",
            hint="choose shares between 0 and 1, together below 1",
        )


def check_sides(
    sides: Mapping[str, Sequence[object]], shares: Mapping[str, float], *, too_few: str
) -> None:
    """Raise DataError, which begins with what is too few, where a side is wrongly empty."""
    empty = [side for side, share in shares.items() if share and not sides[side]]
    if empty:
        raise DataError(
            f"{too_few} for a split: nothing is left for {' and '.join(empty)}",
            hint=f"add {len(empty)} at least, unlike those that there are",
        )


def split(
    rows: Sequence[Row],
    *,
    key: Callable[[Row], str],
    stratum: Callable[[Row], object],
    shares: Mapping[str, float],
    seed: int,
) -> dict[str, tuple[Row, ...]]:
    """Rows by side, in their order: of each stratum the shares asked for, rows of one key together.

    The first of the shares is given first, all that is left goes to training. A stratum gives a
    side nothing only where it has too few keys; training always gets one. A side is empty only
    where the others hold too few keys to spare one.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    strata: dict[object, list[str]] = defaultdict(list)
    for name, members in groups.items():
        strata[stratum(members[0])].append(name)
    sides: dict[str, str] = {}
    for names in strata.values():
        names.sort(key=lambda name: _order(name, seed))
        sides |= _shared_out(names, groups, shares)
    sides |= _spared(sides, shares, seed)
    found: dict[str, list[Row]] = {side: [] for side in SPLITS}
    for row in rows:
        found[sides[key(row)]].append(row)
    return {side: tuple(members) for side, members in found.items()}


def _shared_out(
    names: Sequence[str], groups: Mapping[str, Sequence[object]], shares: Mapping[str, float]
) -> dict[str, str]:
    rows = sum(len(groups[name]) for name in names)
    left = list(names)
    sides: dict[str, str] = {}
    for side, share in shares.items():
        wanted = max(1, round(share * rows)) if share else 0
        given = 0
        while given < wanted and len(left) > 1:
            name = left.pop(0)
            sides[name] = side
            given += len(groups[name])
    return sides | dict.fromkeys(left, TRAIN)


def _spared(sides: Mapping[str, str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """What the fullest side but training gives to those that no stratum had a key for."""
    given: dict[str, str] = {}
    for side, share in shares.items():
        if not share or side in sides.values():
            continue
        held = {one: [name for name, at in sides.items() if at == one] for one in shares}
        fullest = max(held, key=lambda one: len(held[one]))
        names = sorted(held[fullest], key=lambda name: _order(name, seed))
        wanted = max(1, round(len(names) * share / (share + shares[fullest])))
        given |= dict.fromkeys(names[: min(wanted, len(names) - 1)], side)
    return given


def _order(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
