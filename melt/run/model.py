"""The model's file: the person's own, or one that melt makes once and keeps."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from melt import makers
from melt.errors import UsageError, nearest
from melt.files.workload import model_path
from melt.places import cache_folder, package_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from melt.files import Workload


def model_file(workload: Workload, file: Path, say: Callable[[str], None]) -> Path:
    """The path of the workload's model, made now if it has to be.

    Raises UsageError when it does not exist or there is no such maker.
    """
    path = model_path(workload, file)
    if path is not None:
        if not path.is_file():
            raise UsageError(f"{file}: model {path} does not exist: correct 'model.path'")
        return path
    name, seed = workload.model.make or "", workload.model.seed
    if name not in makers.MAKERS:
        hint = nearest(name, makers.MAKERS)
        raise UsageError(f"{file}: model.make: there is no maker '{name}': {hint}")
    path = cache_folder("models") / f"{name}-seed{seed}-{_makers_stamp()}.onnx"
    if not path.exists():
        say(f"making {name}, once")
        makers.make(name, path, seed=seed)
    return path


def _makers_stamp() -> str:
    """Changes whenever the makers' code does, so that a kept model is always what today's code would make."""
    digest = hashlib.sha256()
    for source in sorted((package_dir() / "makers").glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
