"""Reads one YAML file into one strict model; what is wrong becomes one sentence that names the file and the key."""

from __future__ import annotations

import types
import typing
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from melt.errors import UsageError, nearest
from melt.records import SCHEMA, Strict

if typing.TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 1 << 20
M = TypeVar("M", bound=Strict)


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, without two things that hide mistakes: repeated keys and aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not used here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict | set):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key}' stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_model(path: Path, kind: str, model: type[M]) -> M:
    """The file at `path` as a `model`, if it says that it is of this `kind`.

    Raises UsageError when it is missing, not YAML, of another kind, of a newer schema, or has a wrong key or value.
    """
    return check_model(read_yaml(path), path, kind, model)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises UsageError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is larger than 1 MiB: this is not a file for melt")
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise UsageError(f"{path}, line {line}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} is not readable as YAML: {first}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold keys and values, beginning with 'schema: {SCHEMA}' and 'kind: …'")
    return data


def check_model(data: dict[str, Any], path: Path, kind: str, model: type[M]) -> M:
    """`data`, read from `path`, as a `model`. Raises UsageError."""
    rest = dict(data)
    schema, found = rest.pop("schema", None), rest.pop("kind", None)
    if found != kind:
        raise UsageError(
            f"{path}: 'kind' is {found!r} where a {kind} is wanted: write 'kind: {kind}' or name another file"
        )
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise UsageError(f"{path}: 'schema' must be a whole number, now {SCHEMA}")
    if schema > SCHEMA:
        raise UsageError(f"{path} has schema {schema}, this melt reads up to {SCHEMA}: install a newer melt")
    try:
        return model.model_validate(rest)
    except ValidationError as error:
        raise UsageError(f"{path}: {first_problem(error, model)}") from None


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that is wrong, in words: the key, what it is, and the nearest valid one."""
    problem = error.errors(include_url=False)[0]
    where = [str(part) for part in problem["loc"]]
    key = ".".join(where) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"key '{key}' is not known: {nearest(where[-1], _keys_at(model, where[:-1]))}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "literal_error":
        valid = (problem.get("ctx") or {}).get("expected", "")
        return f"key '{key}' is {problem['input']!r}, valid: {valid}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"key '{key}': {message[:1].lower()}{message[1:]} (it is {str(problem['input'])[:60]!r})"


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
    for folder in folders:
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path
    known = {p.stem for folder in folders for p in folder.glob("*.yaml")}
    raise UsageError(f"there is no {kind} '{name}' in {' or '.join(str(f) for f in folders)}: {nearest(name, known)}")
