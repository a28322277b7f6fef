"""Reads one YAML file into one strict model; what is wrong becomes one sentence that names the file and the key."""

from __future__ import annotations

import re
import reprlib
import stat
import types
import typing
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from melt.errors import UsageError, nearest
from melt.records import NAME, SCHEMA, Strict

if typing.TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 16
_SHOWN = 60
M = TypeVar("M", bound=Strict)


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, without what hides mistakes: repeated keys, aliases, tags, and words that turn into others.

    A plain word is null, true, false or a decimal number as in YAML 1.2, and else itself: `no` and `on` are words,
    `010` is ten, `1e3` is a number, `12:30` and `2026-01-31` are texts.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as yaml declares it
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _wrong("aliases (*name) are not used here", event)
        if event.tag is not None:
            raise _wrong("tags (!name) are not used here", event)
        if self._depth == _MAX_DEPTH:
            raise _wrong(f"nested more than {_MAX_DEPTH} deep", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_scalar(self, node: Any) -> str:
        text = super().construct_scalar(node)
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
            raise _wrong("a character that no text can hold", node)
        return str(text)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict | set):
                raise _wrong("a key must be a word", key_node)
            if key in seen:
                raise _wrong(f"key '{shorten(key)}' stands twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _wrong(problem: str, where: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


for _tag, _words, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_words})\Z"), _first)


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def parse_yaml(text: str) -> Any:
    """What a YAML text holds. Raises ValueError with one line that says what is wrong, and in which line."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ValueError(f"line {line}: {shorten(error.problem)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"not readable as YAML: {shorten(str(error).partition(chr(10))[0])}") from None


def read_model(path: Path, kind: str, model: type[M]) -> M:
    """The file at `path` as a `model`, if it says that it is of this `kind`.

    Raises UsageError when it is missing, not YAML, of another kind, of a newer schema, or has a wrong key or value.
    """
    return check_model(read_yaml(path), path, kind, model)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises UsageError."""
    return mapping_in(read_text(path), path)


def mapping_in(text: str, path: Path, kind: str = "…") -> dict[str, Any]:
    """The mapping that the text of the file at `path` holds. Raises UsageError."""
    try:
        data = parse_yaml(text)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold keys and values, beginning with 'schema: {SCHEMA}' and 'kind: {kind}'")
    return data


def read_text(path: Path) -> str:
    """The text of a file that a person wrote. Raises UsageError."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{path} is a folder: name a file in it")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path} is not a file: check the path")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise UsageError(f"{path} is larger than 1 MiB: this is not a file for melt")
        return data.decode("utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file in UTF-8") from None
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is not a path: {error}") from None


def check_model(data: dict[str, Any], path: Path, kind: str, model: type[M]) -> M:
    """`data`, read from `path`, as a `model`. Raises UsageError."""
    rest = dict(data)
    schema, found = rest.pop("schema", None), rest.pop("kind", None)
    if found != kind:
        raise UsageError(
            f"{path}: 'kind' is {reprlib.repr(found)} where a {kind} is wanted: write 'kind: {kind}' or name another "
            "file"
        )
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise UsageError(f"{path}: 'schema' must be a whole number, now {SCHEMA}")
    if schema > SCHEMA:
        raise UsageError(f"{path} has schema {shorten(schema)}, this melt reads up to {SCHEMA}: install a newer melt")
    try:
        return model.model_validate(rest)
    except ValidationError as error:
        raise UsageError(f"{path}: {first_problem(error, model)}") from None


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that is wrong, in words: the key, what it is, and the nearest valid one."""
    problem = error.errors(include_url=False)[0]
    where = [shorten(part) for part in problem["loc"]]
    key = ".".join(where) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"key '{key}' is not known: {nearest(where[-1], _keys_at(model, where[:-1]))}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "literal_error":
        valid = (problem.get("ctx") or {}).get("expected", "")
        return f"key '{key}' is {reprlib.repr(problem['input'])}, valid: {valid}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"key '{key}': {message[:1].lower()}{message[1:]} (it is {reprlib.repr(problem['input'])})"


def shorten(what: object) -> str:
    """A word from a file for a sentence: printable, and not longer than a line takes."""
    text = "".join(c if c.isprintable() else "�" for c in str(what))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _keys_at(model: type[BaseModel], where: list[str]) -> list[str]:
    """The keys that are valid at a place inside `model`."""
    here: Any = model
    for part in where:
        inner = _model_in(here)
        if inner is not None:
            here = next(
                (f.annotation for n, f in inner.model_fields.items() if part in (n, f.alias)),
                inner,
            )
        # any other part is a key or index of a mapping or a list: its values' model stays the one to look in
    inner = _model_in(here)
    return [f.alias or n for n, f in inner.model_fields.items()] if inner else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model that an annotation holds, through Optional, tuple and Mapping."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    for inner in reversed(typing.get_args(annotation)):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def find(name: str, kind: str, folders: list[Path]) -> Path:
    """The file `NAME.yaml` in the first folder that has it. Raises UsageError with the nearest name."""
    for folder in folders if re.fullmatch(NAME, name) else ():
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path
    known = {p.stem for folder in folders for p in folder.glob("*.yaml")}
    shown, where = shorten(name), " or ".join(str(f) for f in folders)
    raise UsageError(f"there is no {kind} '{shown}' in {where}: {nearest(shown, known)}")
