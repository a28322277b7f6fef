"""Packages of Debian 13 beside this system, as the virtual phone gets its own (melt/virtual/debian.py).

What cannot be had skips the test, saying loudly what that leaves untested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from melt.errors import DeviceError
from melt.virtual import debian
from melt.virtual.debian import SUITE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["SUITE", "fetch", "unpacked"]


def unpacked(package: str, what: str, *, with_all_it_needs: bool = False) -> Path:
    """The folder that a package is unpacked in; `what` is not tested when it cannot be had."""
    try:
        return debian.unpacked(package, with_all_it_needs=with_all_it_needs)
    except DeviceError as error:
        pytest.skip(f"{what} NOT tested: {error}")


def fetch(
    packages: Sequence[str],
    into: Path,
    what: str,
    *,
    with_all_they_need: bool,
    architecture: str = "",
    left_out: Sequence[str] = (),
) -> None:
    """Unpacks the packages below `into`; `what` is not tested when they cannot be had."""
    try:
        debian.fetch(
            packages, into, with_all_they_need=with_all_they_need, architecture=architecture, left_out=left_out
        )
    except DeviceError as error:
        pytest.skip(f"{what} NOT tested: {error}")
