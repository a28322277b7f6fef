"""A command that a device is asked with may be missing, fail or hang, and the device is opened all the same."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from melt.device import device as opening
from melt.device.device import Device
from melt.files import load_profile
from melt.readings import READINGS
from melt.records import Captured
from melt.transport import LocalTransport

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def _device(folder: Path) -> Device:
    return Device(
        name="jetson",
        profile=load_profile("linux"),
        address="local:",
        transport=LocalTransport(),
        machine="aarch64",
        root=str(folder),
        agent="",
        facts={},
        sensors=(),
        absent={},
    )


def _asked(folder: Path, reading: str) -> Captured:
    captures = opening._capture(_device(folder), [READINGS[reading]])
    (captured,) = captures.values()
    return captured


def _program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_what_it_says_why_it_failed_or_that_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _program(tmp_path, "nvpmodel", "echo 'NV Power Mode: MAXN'; echo 0")
    _program(tmp_path, "jetson_clocks", "echo 'run this as a root user' >&2; exit 1")
    assert _asked(tmp_path, "nvpmodel") == Captured("nvpmodel -q", b"NV Power Mode: MAXN\n0\n")
    failed = _asked(tmp_path, "jetson-clocks")
    assert failed == Captured("jetson_clocks --show", error="failed (run this as a root user)")
    tell = READINGS["jetson-clocks"].facts
    assert tell is not None
    assert tell({failed.source: failed})[0].reason == "jetson_clocks --show: failed (run this as a root user)"
    assert _asked(tmp_path, "getprop") == Captured("getprop", error="missing")


def test_one_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(opening, "_ASK_S", 0.3)
    _program(tmp_path, "dumpsys", "exec sleep 600")
    assert _asked(tmp_path, "thermalservice") == Captured("dumpsys thermalservice", error="hangs")
