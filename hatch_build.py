"""Puts the native programs into a wheel, so that whoever installs it needs no compiler.

MELT_WHEEL_NATIVE=1 wants every one, and the build fails without; 0 wants none. Unless it is said: every one, but none
in an editable install and none where pip builds for itself (`pip install .`): they are compiled when first needed then.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_CHOICE = "MELT_WHEEL_NATIVE"
_NEEDED = ["cmake>=3.28", "ninja>=1.11", "pip>=23", "ziglang>=0.13"]


class NativePrograms(BuildHookInterface):  # type: ignore[type-arg]
    """Builds them with melt's own code, which keeps them in melt's cache."""

    def dependencies(self) -> list[str]:
        return _NEEDED if _reason_against() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        reason = "this install is an editable one" if version == "editable" else _reason_against()
        if reason:
            self.app.display_warning(
                f"melt: no native programs go into this wheel, since {reason}: a compiler makes each when it is first "
                "needed"
            )
            return
        sys.path.insert(0, self.root)
        from melt.errors import MeltError  # noqa: PLC0415 - the package that is being built
        from melt.native.all_programs import build_all  # noqa: PLC0415

        try:
            files = build_all(lambda words: self.app.display_info(f"melt: {words}"))
        except MeltError as error:
            sys.exit(f"melt: {error} (or build without the native programs: {_CHOICE}=0)")
        finally:
            sys.path.remove(self.root)
        build_data["force_include"].update({str(path): f"melt/{place}" for path, place in files.items()})
        size = sum(path.stat().st_size for path in files)
        self.app.display_info(f"melt: {len(files) - 1} native programs, {size / 1e6:.1f} MB, go into the wheel")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        del version, build_data
        artifact = Path(artifact_path)
        self.app.display_info(f"melt: {artifact.name} has {artifact.stat().st_size / 1e6:.1f} MB")


def _reason_against() -> str | None:
    """Why the programs are not wanted, as far as the environment tells; None when they are."""
    choice = os.environ.get(_CHOICE, "")
    if choice not in {"", "0", "1"}:
        sys.exit(f"melt: {_CHOICE} is '{choice}': say 1 for a wheel with the native programs, 0 for one without")
    if choice:
        return None if choice == "1" else f"{_CHOICE} is 0"
    return "pip builds it for itself" if "PIP_BUILD_TRACKER" in os.environ else None
