"""Models without a download: the exact layers of published networks with seeded random weights.

Speed and memory depend on shapes and types, not on values, so such a model measures like the real one; it
is labelled synthetic wherever it goes. Making and reading models needs the optional package onnx.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.errors import UsageError, nearest
from melt.makers import mlp, mobilenetv3, vit
from melt.makers.modelfile import ModelInfo, TensorInfo, info
from melt.places import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import onnx

__all__ = ["MAKERS", "Maker", "ModelInfo", "TensorInfo", "info", "make"]


@dataclass(frozen=True)
class Maker:
    """A network that melt can make: `build` turns a seed into the same ONNX model on every machine."""

    name: str
    summary: str
    build: Callable[[int], onnx.ModelProto]


MAKERS: Mapping[str, Maker] = {
    module.NAME: Maker(module.NAME, module.SUMMARY, module.build) for module in (mobilenetv3, vit, mlp)
}


def make(name: str, out: Path, *, seed: int = 1) -> ModelInfo:
    """Write the network `name` to `out`, replacing a file that is there, whole or not at all.

    The same name and seed give the same bytes on every machine. Raises UsageError for an unknown name, a
    negative seed, a folder that is missing or cannot be written, and when onnx is not installed.
    """
    if name not in MAKERS:
        raise UsageError(f"no model is called '{name}': {nearest(name, MAKERS)}")
    try:
        if not out.parent.is_dir():
            raise UsageError(f"model {out}: the folder {out.parent} does not exist; make it first")
        if out.is_dir():
            raise UsageError(f"model {out}: is a folder; name a file in it")
        write_whole(out, MAKERS[name].build(seed).SerializeToString(deterministic=True))
    except OSError as error:
        raise UsageError(
            f"model {out}: cannot be written ({error.strerror});"
            " choose a folder that has space and that you may write to"
        ) from error
    return info(out)
