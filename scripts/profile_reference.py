"""Writes the field reference of docs/profiles.md from the schema of profiles: `python scripts/profile_reference.py`.

The meaning of a key is the text that stands below it in the schema's source. With `--check`, nothing is written, and
the exit code is 1 where the page is not what the schema says.
"""

# ruff: noqa: INP001 - a script, and no package

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melt.files import Profile
from melt.files.profile import BatterySpec, Cluster, EngineOnDevice, HeldCommand, Pin, SensorSpec, Thermal
from melt.files.settings import Settings
from melt.records import Response, Strict, TotalRule

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[1] / "docs" / "profiles.md"
BEGIN, END = "<!-- written by scripts/profile_reference.py -->", "<!-- end -->"
MODELS: dict[str, type[Strict]] = {
    model.__name__: model
    for model in (
        *(Profile, Thermal, Cluster, SensorSpec, BatterySpec, HeldCommand, Pin, EngineOnDevice),
        *(Response, TotalRule),
    )
}
IN_FILES_MD = frozenset(Settings.model_fields)
"""What suites, labs and workloads set in the same words."""
ELSEWHERE = {
    "TotalRule.sum": "The names in `sensors` whose sum is the total; one alone is it by itself.",
    "TotalRule.boundary": "What lies behind the total.",
}
"""Meanings of keys that have no text of their own where they are declared."""


def meanings(model: type[Strict]) -> dict[str, str]:
    """The text below each field of a model, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - the source of a class is one
    found = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, str):
            found[field.target.id] = " ".join(text.split())
    return found


def meaning(model: str, field: str) -> str:
    """What a key means. Raises LookupError where nobody has written that down."""
    text = meanings(MODELS[model]).get(field) or ELSEWHERE.get(f"{model}.{field}")
    if not text:
        raise LookupError(f"{model}.{field} has no text below it that says what it means")
    return text


def rows(model: str = "Profile", prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Key, values, default and meaning of every key there is, in the order of the schema."""
    schema = MODELS[model].model_json_schema(by_alias=False)
    required = schema.get("required", [])
    for field, told in schema["properties"].items():
        if model == "Profile" and field in IN_FILES_MD:
            continue
        inner, way = _inner(told)
        key = f"{prefix}{field}"
        default = "needed" if field in required else _default(told, nested=inner is not None)
        yield f"`{key}`", _group(way) if inner else _values(told), default, meaning(model, field)
        if inner:
            yield from rows(inner, f"{key}{way}.")


def _inner(told: dict[str, Any]) -> tuple[str | None, str]:
    """The model that a key holds, and how its keys are reached: `.NAME` in a mapping, `[]` in a list."""
    for one in told.get("anyOf", [told]):
        for way, place in (("", one), (".NAME", _of_each(one)), ("[]", one.get("items"))):
            if isinstance(place, dict) and "$ref" in place:
                return place["$ref"].rpartition("/")[2], way
    return None, ""


def _of_each(told: dict[str, Any]) -> dict[str, Any] | None:
    """What each value of a mapping is, where that is said."""
    patterns = list(told.get("patternProperties", {}).values())
    each = patterns[0] if patterns else told.get("additionalProperties")
    return each if isinstance(each, dict) else None


def _group(way: str) -> str:
    return {"": "keys", ".NAME": "names, with keys", "[]": "a list, with keys"}[way]


def _default(told: dict[str, Any], *, nested: bool) -> str:
    value = told.get("default")
    if value is None or value in ("", [], {}) or nested:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return (
        ", ".join(f"`{v}`" for v in value)
        if isinstance(value, list)
        else f"`{value:g}`"
        if isinstance(value, float)
        else f"`{value}`"
    )


def _values(told: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_one(one) for one in told.get("anyOf", [told]) if one.get("type") != "null"))


def _one(told: dict[str, Any]) -> str:
    if "enum" in told:
        return ", ".join(told["enum"])
    if "const" in told:
        return str(told["const"])
    kind = told.get("type")
    if kind == "array":
        return "texts" if told["items"].get("type") == "string" else f"a list of {_one(told['items'])}"
    if kind == "object":
        return f"names, with {_one(each)}" if (each := _of_each(told)) else "names, with anything"
    if kind in ("integer", "number"):
        return {"integer": "a whole number", "number": "a number"}[kind] + _limits(told)
    return {"boolean": "true, false", "string": "a text"}[str(kind)]


def _limits(told: dict[str, Any]) -> str:
    words = []
    for key, word in (("exclusiveMinimum", "above"), ("minimum", "from"), ("maximum", "up to")):
        if key in told:
            words.append(f"{word} {told[key]:.10g}")
    return f" {' '.join(words)}" if words else ""


def reference() -> str:
    """The table, as the page has it."""
    lines = ["| key | values | unless said | |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows()]
    return "\n".join(lines)


def with_reference(page: str) -> str:
    """The page with the table of today."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LookupError(f"{PAGE} lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


def main(words: list[str]) -> int:
    """0, or 1 where the page is to be checked and is not what the schema says."""
    page = PAGE.read_text(encoding="utf-8")
    new = with_reference(page)
    if "--check" in words:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
