"""On which devices of the lab the tests are carried out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from melt.errors import UsageError
from melt.files import load_lab

if TYPE_CHECKING:
    from melt.files import Lab

VIRTUAL = "virtual"
_LAB = pytest.StashKey["Lab"]()
CHOSEN = pytest.StashKey[set[str]]()
"""The devices that the collected tests are carried out on."""


def devices_of(config: pytest.Config, marker: pytest.Mark | None) -> list[str]:
    """The devices that a test's marker names, or the command line does, or the lab's usual ones.

    Raises CollectError, in a sentence, for a device or tag that the lab has not.
    """
    try:
        lab = names_of(config)
        names: tuple[str, ...] = tuple(config.getoption("--melt-device"))
        tags: tuple[str, ...] = ()
        if marker is not None:
            names, tags = tuple(map(str, marker.args)), _tags(marker)
        found = lab.choose(names, tags) if names or tags else list(lab.usual)
    except UsageError as error:
        no_lab = "" if config.getoption("--melt-lab") else " (--melt-lab names no lab file)"
        raise pytest.Collector.CollectError(f"melt: {error}{no_lab}") from None
    config.stash.setdefault(CHOSEN, set()).update(found)
    return found


def names_of(config: pytest.Config) -> Lab:
    """The lab of `--melt-lab`; of virtual boards their names alone, for none is started yet. Raises UsageError."""
    if _LAB not in config.stash:
        config.stash[_LAB] = _listed(config)
    return config.stash[_LAB]


def _listed(config: pytest.Config) -> Lab:
    file = config.getoption("--melt-lab")
    if file == VIRTUAL:
        from melt.virtual.lab import listed  # noqa: PLC0415 - what only virtual boards need

        return listed()
    return load_lab(config.invocation_params.dir / Path(file) if file else None)


def _tags(marker: pytest.Mark) -> tuple[str, ...]:
    unknown = marker.kwargs.keys() - {"tags"}
    if unknown:
        raise UsageError(f"marker melt_device knows 'tags' and no '{min(unknown)}'")
    tags = marker.kwargs.get("tags", ())
    return (tags,) if isinstance(tags, str) else tuple(map(str, tags))
