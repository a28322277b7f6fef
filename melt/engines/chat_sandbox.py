"""A program of its own that renders a model's chat template: whatever that does, it ends soon.

A template is code from wherever the model is from. Jinja's sandbox keeps it from Python; this process's limits keep
it from taking the computer's time and memory. It reads a JSON object from its standard input and writes one to its
standard output.
"""

from __future__ import annotations

import json
import os
import random
import resource
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.parser import Parser

TODAY = datetime(2024, 7, 26, tzinfo=UTC)
"""A template may write the date: this one, so that runs of different days are given the same prompt."""
_SHOWN = 300


class _TooLong(Exception):
    """The template writes more than it may."""


class _Refused(Exception):
    """The template's own `raise_exception`."""


class _Generation(Extension):
    """`{% generation %}` marks the answers for training; here it is what stands in it."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _limited(cpu_s: int, memory_bytes: int) -> None:
    """The limits of this process from here on; a person's own lower ones stay."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_AS: memory_bytes,
    }
    for what, most in wanted.items():
        _, hard = resource.getrlimit(what)
        most_here = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most_here, hard))


def _environment() -> ImmutableSandboxedEnvironment:
    """As the transformers library sets it up, for which templates are written; but for the date."""
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    found.filters["tojson"] = _as_json
    found.globals["raise_exception"] = _refuse
    found.globals["strftime_now"] = TODAY.strftime
    return found


def _as_json(value: Any, indent: int | None = None, *, sort_keys: bool = False) -> str:
    """JSON as it is: Jinja's own filter escapes what HTML needs."""
    return json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys)


def _refuse(message: object) -> NoReturn:
    raise _Refused(str(message))


def _rendered(template: Template, values: dict[str, Any], most_bytes: int) -> str:
    random.seed(0)  # Jinja has a filter that draws lots
    pieces, size = [], 0
    for piece in template.generate(values):
        size += len(piece.encode())
        if size > most_bytes:
            raise _TooLong
        pieces.append(piece)
    return "".join(pieces)


def _render_all(asked: dict[str, Any], texts: list[str]) -> None:
    """Adds the text of each of the `jobs` to `texts`: so many messages of a conversation."""
    template = _environment().from_string(asked["template"])
    left = int(asked["most_bytes"])
    for conversation, messages, answering in asked["jobs"]:
        values = {"tools": None, "documents": None, **asked["values"], "add_generation_prompt": answering}
        values["messages"] = asked["conversations"][conversation][:messages]
        texts.append(_rendered(template, values, min(left, asked["most_bytes_each"])))
        left -= len(texts[-1].encode())


def _problem(error: Exception) -> str:
    """What is wrong with the template: a half-sentence."""
    if isinstance(error, _Refused):
        return f"refuses what it is given: {error}"
    if isinstance(error, _TooLong):
        return "writes more than any prompt holds"
    if isinstance(error, MemoryError):
        return "takes too much memory"
    if isinstance(error, SecurityError):
        return f"does what a template may not: {error}"
    if isinstance(error, TemplateSyntaxError):
        return f"is not Jinja: line {error.lineno}: {error.message}"
    return f"does not work: {type(error).__name__}: {error}"


def main() -> None:
    """Reads what is asked, limits itself, answers."""
    with os.fdopen(0, "rb", closefd=False) as given:
        asked = json.loads(given.read())
    _limited(asked["cpu_s"], asked["memory_bytes"])
    answer: dict[str, Any] = {"texts": []}
    try:
        _render_all(asked, answer["texts"])
    except Exception as error:  # noqa: BLE001 - a template is code, and fails as code does
        answer = {"problem": _problem(error)[:_SHOWN], "job": len(answer["texts"])}
    with os.fdopen(1, "wb", closefd=False) as taken:
        taken.write(json.dumps(answer).encode())


if __name__ == "__main__":
    main()
