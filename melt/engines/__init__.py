"""How an inference runtime is delivered, started and understood: the seam, and one file for each runtime."""

from collections.abc import Callable, Mapping

from melt.engines.base import Command, Engine, InputShape, OutputCheck, Prepared, Request, StopRules
from melt.engines.command import CommandEngine
from melt.engines.llamacpp import LlamaCpp
from melt.engines.onnxruntime import OnnxRuntime
from melt.engines.roofline import Roofline
from melt.errors import UsageError, nearest

ENGINES: Mapping[str, Callable[[], Engine]] = {
    "command": CommandEngine,
    "llama.cpp": LlamaCpp,
    "onnxruntime": OnnxRuntime,
    "roofline": Roofline,
}


def engine_named(name: str) -> Engine:
    """A fresh engine of that name. Raises UsageError with the nearest one."""
    if name not in ENGINES:
        raise UsageError(f"engine '{name}' is not known: {nearest(name, ENGINES)}")
    return ENGINES[name]()


__all__ = [
    "ENGINES",
    "Command",
    "Engine",
    "InputShape",
    "OutputCheck",
    "Prepared",
    "Request",
    "StopRules",
    "engine_named",
]
