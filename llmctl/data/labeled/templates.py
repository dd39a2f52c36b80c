"""`Case: {facts}` and a row -> a turn: the user's own words around columns of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from llmctl.data.labeled.table import is_blank
from llmctl.data.labeled.turns import Turn, written
from llmctl.errors import ConfigError
from llmctl.registry import suggest


@dataclass(frozen=True, slots=True)
class Template:
    """Words and columns in turn: each part is a text and the column behind it, if any."""

    parts: tuple[tuple[str, str | None], ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that it names, each once."""
        return tuple(dict.fromkeys(field for _, field in self.parts if field is not None))


def parse(template: str, names: Sequence[str], flag: str, *, fixed: bool = False) -> Template:
    """Read `… {column} …`; raises ConfigError for unknown columns, or none unless `fixed`.

    >>> parse("Case: {facts}", ["facts", "outcome"], "--prompt").fields
    ('facts',)
    """
    try:
        parsed = [*Formatter().parse(template)]
    except ValueError as error:
        raise ConfigError(
            f"`{flag}` cannot be read: {error}",
            hint="a column stands in braces, {column}; write {{ and }} for braces themselves",
        ) from error
    # A name may hold what Python's formats give a meaning: `{price:usd}` is one column.
    parts = tuple((text, _whole_name(field, spec, cast)) for text, field, spec, cast in parsed)
    found = Template(parts)
    for field in found.fields:
        if field not in names:
            raise ConfigError(
                f"there is no column `{field}`, which `{flag}` names", hint=suggest(field, names)
            )
    if not found.fields and not fixed:
        example = template if template in names else "column"
        raise ConfigError(
            f"`{flag}` names no column: {template!r}",
            hint=f"put a column in braces: {flag} '{{{example}}}'",
        )
    return found


def fill(role: str, template: Template, values: Mapping[str, Any]) -> Turn:
    """The template with the values of a row; empty where all its columns are.

    A column that a row lacks is a problem.
    """
    missing = [field for field in template.fields if field not in values]
    if missing:
        return Turn(role, "", f"no value for `{missing[0]}`")
    if template.fields and all(is_blank(values[field]) for field in template.fields):
        return Turn(role, "")
    pieces = (
        text + ("" if field is None else written(values[field])) for text, field in template.parts
    )
    return Turn(role, "".join(pieces))


def _whole_name(field: str | None, spec: str | None, cast: str | None) -> str | None:
    if field is None:
        return None
    return field + (f"!{cast}" if cast else "") + (f":{spec}" if spec else "")
