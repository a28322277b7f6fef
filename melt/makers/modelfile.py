"""What an ONNX file holds, without running it. The file is not trusted: nothing outside it is opened."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melt.errors import UsageError
from melt.makers.graph import SEED_MAX, need_onnx
from melt.records import Strict

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

SIZE_MAX_BYTES = 2**31 - 1
"""What one protobuf message can hold; a larger model keeps its weights in files beside it."""

TEXT_MAX = 500

UNKNOWN_RANK = ("...",)


class TensorInfo(Strict):
    """One input or output. A free dimension is its name, or `?`; a shape `("...",)` is not stated at all."""

    name: str
    dtype: str
    """numpy's name (`float32`), ONNX's where numpy has none, or `sequence`, `map`, `optional`."""
    shape: tuple[int | str, ...]


class ModelInfo(Strict):
    """What `melt model info` tells of one ONNX file."""

    path: Path
    sha256: str
    size_bytes: int
    producer: str
    description: str
    """The model's own words, cut short and without control characters."""
    opset: int
    synthetic: bool
    """Made by melt with random weights: no accuracy, and an energy that is compared only with its like."""
    seed: int | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    macs: int | None
    """Multiply-accumulates of one inference; null with the reason beside it."""
    macs_reason: str | None
    nodes: int
    ops: Mapping[str, int]
    external_files: tuple[str, ...]
    """Files that hold more of the weights, as the model names them; not opened, not in `size_bytes`."""


def info(path: Path) -> ModelInfo:
    """Describe the ONNX file at `path`; UsageError when it is missing, too large or not ONNX."""
    need_onnx()
    from melt.makers.census import external_files, operations, parameters  # noqa: PLC0415 - needs onnx
    from melt.makers.macs import macs  # noqa: PLC0415 - needs onnx

    data = _read(path)
    model = _parse(path, data)
    labels = {entry.key: entry.value for entry in model.metadata_props}
    weights = {tensor.name for tensor in model.graph.initializer}
    ops = operations(model)
    count, reason = macs(model)
    return ModelInfo(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        producer=_clean(f"{model.producer_name} {model.producer_version}"),
        description=_clean(model.doc_string),
        opset=_opset(model),
        synthetic=labels.get("melt.synthetic") == "true",
        seed=_seed(labels.get("melt.seed", "")),
        inputs=_tensors(v for v in model.graph.input if v.name not in weights),
        outputs=_tensors(model.graph.output),
        parameters=parameters(model),
        macs=count,
        macs_reason=reason,
        nodes=ops.total(),
        ops=dict(sorted(ops.items())),
        external_files=external_files(model),
    )


def _read(path: Path) -> bytes:
    try:
        if not path.exists():
            raise UsageError(f"model {path}: no such file; make one with 'melt model make' or correct the path")
        if not path.is_file():
            raise UsageError(f"model {path}: not a regular file; name the .onnx file itself")
        size = path.stat().st_size
        if size > SIZE_MAX_BYTES:
            raise UsageError(
                f"model {path}: {size} bytes are more than one ONNX file can hold ({SIZE_MAX_BYTES});"
                " export it with its weights in files beside it"
            )
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"model {path}: cannot be read ({error.strerror}); check its permissions") from error


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    """The model, told apart from the texts and truncated files that protobuf alone takes for one."""
    import onnx  # noqa: PLC0415 - an optional extra
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415

    if not data:
        raise UsageError(f"model {path}: not an ONNX model: the file is empty; export it again")
    try:
        model = onnx.ModelProto()
        model.ParseFromString(data)
    except DecodeError as error:
        raise UsageError(
            f"model {path}: not an ONNX model, or cut short ({len(data)} bytes); export or copy it again"
        ) from error
    if _garbled(model):
        raise UsageError(f"model {path}: damaged: a name in it is not text; export or copy it again")
    lacking = [
        what
        for what, there in (
            ("a format version", model.ir_version > 0),
            ("an opset", any(entry.version > 0 for entry in model.opset_import)),
            ("a graph with outputs", len(model.graph.output) > 0),
        )
        if not there
    ]
    if lacking:
        raise UsageError(
            f"model {path}: not an ONNX model, or cut short: it lacks {' and '.join(lacking)}; export or copy it again"
        )
    return model


def _garbled(message: Any) -> bool:
    """Whether a string anywhere in the message is not UTF-8: protobuf then hands out bytes in its place."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            texts = (value,) if isinstance(value, str | bytes) else value
            if any(isinstance(text, bytes) for text in texts):
                return True
        elif field.type == field.TYPE_MESSAGE:
            parts = (value,) if hasattr(value, "ListFields") else value
            if any(_garbled(part) for part in parts):
                return True
    return False


def _opset(model: onnx.ModelProto) -> int:
    """The version of the standard operations; of the first others in a model that uses none of them."""
    versions: dict[str, int] = {entry.domain: entry.version for entry in reversed(model.opset_import)}
    fallback: int = model.opset_import[0].version
    return versions.get("", versions.get("ai.onnx", fallback))


def _seed(text: str) -> int | None:
    seed = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else None
    return seed if seed is not None and seed <= SEED_MAX else None


def _clean(text: str) -> str:
    """A stranger's words, fit for a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:TEXT_MAX]).strip()


def _tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorInfo, ...]:
    return tuple(_tensor(value) for value in values)


def _tensor(value: onnx.ValueInfoProto) -> TensorInfo:
    from melt.makers.shapes import dimensions  # noqa: PLC0415 - needs onnx

    kind = value.type.WhichOneof("value") or "unknown"
    if kind not in ("tensor_type", "sparse_tensor_type"):
        return TensorInfo(name=value.name, dtype=kind.removesuffix("_type"), shape=UNKNOWN_RANK)
    tensor = value.type.tensor_type if kind == "tensor_type" else value.type.sparse_tensor_type
    shape = dimensions(tensor.shape) if tensor.HasField("shape") else UNKNOWN_RANK
    return TensorInfo(name=value.name, dtype=_dtype(tensor.elem_type), shape=shape)


def _dtype(elem_type: int) -> str:
    import onnx  # noqa: PLC0415 - an optional extra

    names: dict[int, str] = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    name = names.get(elem_type, f"unknown{elem_type}")
    return {"float": "float32", "double": "float64"}.get(name, name)
