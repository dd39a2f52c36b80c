r"""LaTeX -> LaTeX in which the author's own macros are written out.

`\newcommand{\us}{Our Name}` is text, and without it sentences have holes. What a macro becomes
is bounded, since two lines of TeX can ask for more than a disk holds.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

MOST_ROUNDS = 12
# A text may grow by so much, or to so many times its length if that is more.
FREE_CHARACTERS, MOST_RATIO = 2**20, 4

COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*(?:\n[ \t]*(?=\S))?")
DEFINITION = re.compile(
    r"\\(?:(?:re|provide)?newcommand|renewcommand|providecommand|DeclareRobustCommand"
    r"|DeclareMathOperator)\*?\s*(?:\{\s*\\([a-zA-Z@]+)\s*\}|\\([a-zA-Z@]+))\s*(?:\[(\d)\])?"
    r"|\\(?:def|gdef|edef)\s*\\([a-zA-Z@]+)((?:#\d)*)\s*(?=\{)"
)
USE = re.compile(r"\\([a-zA-Z@]+)\s*")
ARGUMENT = re.compile(r"#([1-9])")
MACRO_OR_SIGN = re.compile(r"\\(?:[a-zA-Z@]+|.)|[^\s{}]", re.DOTALL)


class Macro(NamedTuple):
    """What a macro stands for, how many arguments it takes, and what its first is by default."""

    body: str
    arguments: int
    default: str | None


def without_comments(source: str) -> str:
    r"""The source without what `%` hides, which takes the end of its line with it.

    >>> without_comments("ten\\% of% not seen\n  all")
    'ten\\% ofall'
    """
    return COMMENT.sub(r"\1", source)


def write_out(source: str) -> str:
    r"""The source with its simple definitions taken out and their uses written out.

    >>> write_out(r"\newcommand{\us}[1]{Us (#1)}\us{now} and \LaTeX")
    'Us (now) and \\LaTeX'
    """
    source, macros = _definitions(source)
    most = max(len(source) + FREE_CHARACTERS, MOST_RATIO * len(source))
    for _ in range(MOST_ROUNDS):
        written = _round(source, macros, most)
        if written is None or written == source:
            break
        source = written
    return source


def group(source: str, start: int, brackets: str = "{}") -> tuple[str, int] | None:
    r"""What stands in the brackets that open at `start`, and where they are closed.

    >>> group(r"\a{b{c}}d", 2)
    ('b{c}', 8)
    """
    opening, closing = brackets
    if not source.startswith(opening, start):
        return None
    depth, at = 0, start
    while at < len(source):
        sign = source[at]
        if sign == "\\":
            at += 1
        elif sign == opening:
            depth += 1
        elif sign == closing:
            depth -= 1
            if not depth:
                return source[start + 1 : at], at + 1
        at += 1
    return None


def _definitions(source: str) -> tuple[str, dict[str, Macro]]:
    """The source without its definitions, and these; one that cannot be read stays."""
    macros: dict[str, Macro] = {}
    pieces: list[str] = []
    start = 0
    for found in DEFINITION.finditer(source):
        if found.start() < start:
            continue  # within another one
        name = found[1] or found[2] or found[4]
        arguments = int(found[3] or 0) if found[4] is None else len(found[5]) // 2
        at, default = found.end(), None
        if arguments and (first := group(source, at, "[]")):
            default, at = first
        body = group(source, _past_blanks(source, at))
        if body is None:
            continue
        text = rf"\operatorname{{{body[0]}}}" if "Operator" in found[0] else body[0]
        if name not in USE.findall(text):  # else it would never end
            macros[name] = Macro(text, arguments, default)
        pieces.append(source[start : found.start()])
        start = body[1]
    return "".join([*pieces, source[start:]]), macros


def _round(source: str, macros: Mapping[str, Macro], most: int) -> str | None:
    """Every use written out once; None where that is too long."""
    pieces: list[str] = []
    start = length = 0
    for found in USE.finditer(source):
        macro = macros.get(found[1])
        if macro is None or found.start() < start:
            continue
        at = found.end() if macro.arguments else found.start() + len(found[1]) + 1
        given, at = _arguments(source, at, macro)
        body = ARGUMENT.sub(lambda one, given=given: given.get(int(one[1]), ""), macro.body)
        pieces += (source[start : found.start()], body)
        length += len(pieces[-1]) + len(pieces[-2])
        if length > most:
            return None
        # `\us{}` and `\us\ ` are how authors keep the blank behind a name.
        start = at + 2 if not macro.arguments and source.startswith("{}", at) else at
    return "".join([*pieces, source[start:]])


def _arguments(source: str, at: int, macro: Macro) -> tuple[dict[int, str], int]:
    given: dict[int, str] = {}
    number = 1
    if macro.default is not None:
        optional = group(source, at, "[]")
        given[1], at = optional or (macro.default, at)
        number = 2
    for place in range(number, macro.arguments + 1):
        at = _past_blanks(source, at)
        found = group(source, at)
        if found is None:
            sign = MACRO_OR_SIGN.match(source, at)
            found = (sign[0], sign.end()) if sign else ("", at)
        given[place], at = found
    return given, at


def _past_blanks(source: str, at: int) -> int:
    while at < len(source) and source[at].isspace():
        at += 1
    return at
