"""What the agent on a device says, read strictly: a device may say anything."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field

from melt.errors import DeviceError
from melt.records import Strict

LINE_BYTES = 1 << 20
"""No line of the agent is longer."""
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Seconds = Annotated[int, Field(strict=True, ge=-(1 << 63), lt=1 << 63)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=255)]


class Space(Strict):
    """The first line of `list`."""

    free_bytes: Count
    now_s: Seconds


class Entry(Strict):
    """A file, as `list` tells it."""

    name: Name
    size_bytes: Count = Field(alias="bytes")
    used_s: Seconds
    changed_s: Seconds
    checked: bool


class Hashed(Strict):
    """A line of `hash`: how far it is, a file's hash, or why it has none."""

    size_bytes: Count = Field(alias="bytes", default=0)
    name: str = ""
    sha256: str = ""
    error: str = ""


class Taken(Strict):
    """What `take` answers."""

    size_bytes: Count = Field(alias="bytes")


Bytes = Annotated[str, Field(pattern=r"^[\x00-\xff]*$")]
"""Each byte as the code point of the same number."""


class Probed(Strict):
    """A file, as `probe` read it."""

    path: Bytes
    ns: Count = 0
    data: Bytes = ""
    error: str | None = None


_A = TypeVar("_A", bound=Strict)


def read(kind: type[_A], line: bytes) -> _A:
    """One line of an answer. Raises DeviceError when it is not what that verb says."""
    try:
        return kind.model_validate_json(line)
    except ValueError:
        raise DeviceError(
            f"the agent there answers what no agent says ({line[:60]!r}): remove the work folder on the device, and "
            "call again"
        ) from None
