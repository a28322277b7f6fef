"""The model's file: the person's own, or one that melt makes once and keeps."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from melt import makers
from melt.errors import TransportError, UsageError, nearest
from melt.files.workload import model_path
from melt.makers import gguf, hub
from melt.places import cache_folder, package_dir

_QUANT = "q4_0"
"""What a language model is quantised to where its workload does not say."""

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from melt.files import Workload


def model_file(
    workload: Workload, file: Path, say: Callable[[str], None], cancelled: Callable[[], bool] = lambda: False
) -> Path | None:
    """The path of the workload's model, made or fetched now if it has to be; None for a workload without one.

    Raises UsageError when it does not exist, cannot be fetched, or there is no such maker, Interrupted when `cancelled`
    while it is fetched.
    """
    path = model_path(workload, file)
    if path is not None:
        if not path.is_file():
            raise UsageError(f"{file}: model {path} does not exist: correct 'model.path'")
        return path
    if workload.model is None:
        return None
    if workload.model.hub is not None:
        return _hub_model(workload.model.hub, file, say, cancelled)
    name, seed = workload.model.make or "", workload.model.seed
    if name in gguf.NETWORKS:
        return _language_model(name, workload.model.quant or _QUANT, seed, file, say)
    if workload.model.quant is not None:
        raise UsageError(f"{file}: model.quant is for language models, and '{name}' is none: leave it out")
    if name not in makers.MAKERS:
        hint = nearest(name, [*makers.MAKERS, *gguf.NETWORKS])
        raise UsageError(f"{file}: model.make: there is no maker '{name}': {hint}")
    path = cache_folder("models") / f"{name}-seed{seed}-{_makers_stamp()}.onnx"
    if not path.exists():
        say(f"making {name}, once")
        makers.make(name, path, seed=seed)
    return path


def _language_model(name: str, quant: str, seed: int, file: Path, say: Callable[[str], None]) -> Path:
    if quant not in gguf.QUANTS:
        raise UsageError(f"{file}: model.quant: there is no '{quant}': {nearest(quant, gguf.QUANTS)}")
    path = cache_folder("models") / f"{name}-{quant}-seed{seed}-{_makers_stamp('makers/gguf')}.gguf"
    if not path.exists():
        say(f"making {name} in {quant}, once")
        gguf.make(name, path, quant=quant, seed=seed)
    return path


def _hub_model(source: str, file: Path, say: Callable[[str], None], cancelled: Callable[[], bool]) -> Path:
    try:
        fetched = hub.get(hub.parse_reference(source), say, cancelled=cancelled)
    except (TransportError, UsageError) as error:  # not the device's line: none could go on without the model
        raise UsageError(f"{file}: model.hub: {error}") from error
    say(f"{hub.SCHEME}{source}: commit {fetched.provenance.commit}, sha256 {fetched.provenance.sha256}")
    return fetched.path


def _makers_stamp(folder: str = "makers") -> str:
    """Changes whenever the makers' code does, so that a kept model is always what today's code would make."""
    digest = hashlib.sha256()
    for source in sorted((package_dir() / folder).glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
