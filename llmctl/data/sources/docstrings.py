"""Python source text -> the English prose of its docstrings, without importing anything.

A docstring is cut into paragraphs; those that read as English are kept, each on one line, with
reST mark-up taken off. Examples, tables, lists of parameters and directives are left out.
"""

import ast
import inspect
import itertools
import re
import warnings
from collections.abc import Iterator

_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

_LINE_OF_CODE = re.compile(r"\s*(>>>|\$ |:\w[\w ]*:|@\w|\+[-=]+\+|\||[\w.]+:?$)")
_PARAMETER = re.compile(r"\s*[\w.,*` ]+ : \S")
_UNDERLINE = re.compile(r"\s*([-=~^*#\"])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"\s*\.\.(\s|$)")
_BULLET = re.compile(r"^\s*([-*+•]|\d+[.)]|\(\w\))\s+")

_ROLE = re.compile(r":[\w:+-]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{0,2}")
_EMPHASIS = re.compile(r"(`{1,2}|\*{1,2})(?=\S)([^`*\n]+?)(?<=\S)\1_?")

_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_SENTENCE_END = re.compile(r"[.!?][)\"'”]*$")
_CODE = re.compile(r"[`$\\{}<>|~^]|\]_|\w=|==|::|https?:")
_CUE = re.compile(r"(?<=[.!?]) [^.!?]*:$")
_SYMBOL = re.compile(r"[^A-Za-z ]")
_COMMON = frozenset(
    "a an and are as at be been but by can do does for from has have if in into is it its may "
    "more no not of on one only or other so such than that the their then there these they this "
    "to used was we were when where which will with you your".split()
)


def docstrings(source: str) -> Iterator[str]:
    """The docstrings of a module, its classes and its functions, from top to bottom.

    Raises SyntaxError or ValueError for text that is not Python of this version.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, _DOCUMENTED):
            continue
        yield ast.get_docstring(node, clean=False) or ""
        waiting.extend(reversed(node.body))


def prose(docstring: str) -> Iterator[str]:
    r"""The paragraphs of a docstring that read as English, each as one line.

    >>> list(prose("Return the number of words in a text.\n\n>>> count('a b')\n2"))
    ['Return the number of words in a text.']
    """
    for paragraph in _paragraphs(inspect.cleandoc(docstring)):
        text = _without_markup(paragraph)
        if reads_as_english(text):
            yield text


def reads_as_english(text: str) -> bool:
    """Whether a paragraph is sentences rather than code, a table or a list of names."""
    words = _WORD.findall(text)
    if len(words) < 8 or not text[0].isupper() or not _SENTENCE_END.search(text):
        return False
    symbols = len(_SYMBOL.findall(text)) / len(text)
    common = sum(word.lower() in _COMMON for word in words) / len(words)
    letters_per_word = sum(map(len, words)) / len(words)
    return symbols < 0.1 and common > 0.25 and 3 < letters_per_word < 7 and not _CODE.search(text)


def _paragraphs(text: str) -> Iterator[str]:
    """Runs of lines between blank lines, items of lists apart, without headings and code."""
    for block in re.split(r"\n\s*\n", text):
        lines = _below_heading([line for line in block.split("\n") if line.strip()])
        if _is_code(lines):
            continue
        item: list[str] = []
        for line in lines:
            if _DIRECTIVE.match(line):
                continue
            if _BULLET.match(line) and item:
                yield " ".join(item)
                item = []
            item.append(_BULLET.sub("", line).strip())
        yield " ".join(item)


def _below_heading(lines: list[str]) -> list[str]:
    for place, line in enumerate(lines):
        if _UNDERLINE.match(line):
            return lines[place + 1 :]
    return lines


def _is_code(lines: list[str]) -> bool:
    """Whether lines hold code, a parameter, or a term with its meaning indented below it."""
    return any(_LINE_OF_CODE.match(line) or _PARAMETER.match(line) for line in lines) or any(
        _indent(below) > _indent(line) and not _BULLET.match(line)
        for line, below in itertools.pairwise(lines)
    )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _without_markup(text: str) -> str:
    for pattern in (_ROLE, _LINK):
        text = pattern.sub(r"\1", text)
    text = re.sub(r"\s+", " ", _EMPHASIS.sub(r"\2", text)).strip()
    # A last sentence that ends in a colon announces an example that is left out.
    return _CUE.sub("", text)
