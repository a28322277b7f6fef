"""What an Android phone is: model, processor, system and build, from its properties.

Source: `getprop`, which prints `[name]: [value]`. A value may hold brackets and line ends. Serial numbers are never
looked at.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Reading, fact, first_known
from melt.readings.text import integer, line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from melt.records import Fact

_ARGV = ("getprop",)
_SOURCE = " ".join(_ARGV)
_LONGEST = 1 << 20
_START = re.compile(r"^\[([^\]\n]{1,200})\]: \[", re.MULTILINE)


def properties(data: bytes) -> Mapping[str, str]:
    """Every property by its name; a value goes on until the line that begins the next one."""
    text = data[:_LONGEST].decode("utf-8", "replace").replace("\r\n", "\n")
    starts = list(_START.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {
        start[1]: text[start.end() : end].rstrip("\n").removesuffix("]")
        for start, end in zip(starts, ends, strict=False)  # without any property there is an end more
    }


def _of(name: str, data: bytes) -> str:
    """The value of one property. Raises ParseError where it is missing or empty."""
    value = properties(data).get(name, "")
    try:
        return line(value.encode())
    except ParseError:
        raise ParseError(f"there is no property '{name}'", data[:4096]) from None


def _number_of(name: str, data: bytes) -> int:
    return integer(_of(name, data).encode())


def _model(data: bytes) -> str:
    """Maker and model, the maker once."""
    model = _of("ro.product.model", data)
    maker = properties(data).get("ro.product.manufacturer", "").strip()
    if not maker or model.lower().startswith(maker.lower()):
        return model
    return line(f"{maker} {model}".encode())


def _processor(data: bytes) -> str:
    """Such as `Google Tensor G3`: since Android 12 a phone says it so."""
    maker = properties(data).get("ro.soc.manufacturer", "").strip()
    return line(f"{maker} {_of('ro.soc.model', data)}".encode())


def _facts(captures: Captures) -> tuple[Fact, ...]:
    def first(name: str, *parsers: Callable[[bytes], str | int]) -> Fact:
        return first_known(fact(name, captures, _SOURCE, parse) for parse in parsers)

    return (
        first("device_model", _model),
        first(
            "soc_model",
            _processor,
            partial(_of, "ro.hardware.chipname"),
            partial(_of, "ro.chipname"),
            partial(_of, "ro.board.platform"),
        ),
        first("android_version", partial(_of, "ro.build.version.release")),
        first("android_api", partial(_number_of, "ro.build.version.sdk")),
        first("android_build", partial(_of, "ro.build.fingerprint"), partial(_of, "ro.build.id")),
        first("android_build_type", partial(_of, "ro.build.type")),
        first("security_patch", partial(_of, "ro.build.version.security_patch")),
        first(
            "android_abi",
            partial(_of, "ro.product.cpu.abi"),
            lambda data: _of("ro.product.cpu.abilist", data).partition(",")[0],
        ),
    )


GETPROP = Reading(
    "getprop",
    "an Android phone's model, processor and build",
    argv=_ARGV,
    facts=_facts,
    asked_always=False,
)
