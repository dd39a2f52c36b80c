"""A chat template -> a function from messages to text, with what Hugging Face templates expect.

The sandbox lets a template read what it is given, change nothing and reach nothing else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmctl.data.labeled.conversations import Message
from llmctl.errors import ConfigError, DataError

MOST_SAID = 200  # characters of what a template says

Render = Callable[[Sequence[Message], bool], str]


class _Generation(Extension):
    """`{% generation %}` … `{% endgeneration %}`: what is between them, as it stands.

    Others mark the trained words so. Here that is found out, also where nothing is marked.
    """

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(source: str, config: Mapping[str, Any]) -> Render:
    """The function of a template and the special tokens in `config` (`bos_token` …).

    It takes messages, and whether an answer is to follow, and raises DataError where the
    template refuses them. Raises ConfigError for what is no Jinja.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    known = {"raise_exception": _refuse, "strftime_now": _now}
    try:
        template = environment.from_string(source, globals=known)
    except jinja2.TemplateError as error:
        raise ConfigError(
            f"the chat template is no valid Jinja: {error}",
            hint="mend the chat template, or remove it to go with ChatML",
        ) from error
    tokens = {name: text for name, text in config.items() if name.endswith("_token")}

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str:
        told = [{"role": one.role, "content": one.content} for one in messages]
        try:
            return template.render(
                messages=told,
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
                **tokens,
            )
        # A template is a program of somebody else's: it raises what it likes.
        except Exception as error:
            raise DataError(
                f"the chat template refuses the messages: {str(error)[:MOST_SAID]}",
                hint="see what roles and what order the model's template knows",
            ) from error

    return render


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(value: Any, *, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)
