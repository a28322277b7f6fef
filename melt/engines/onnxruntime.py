"""ONNX Runtime, through melt's own C runner and the library of the installed wheel."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import platform
import re
import reprlib
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from melt.engines.base import Command, InputShape, OutputCheck, Prepared, Request, decimal
from melt.engines.stored import stored
from melt.engines.wheels import onnxruntime_library
from melt.errors import Unsupported, UsageError, nearest
from melt.native import build
from melt.records import Metric, Strict

_MAX_INPUT_BYTES = 1 << 30
_TOLERANCE = 1e-3
"""Largest difference that still agrees, as a share of the largest output: float kernels sum in other orders."""
_TYPES: Mapping[str, str] = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
"""The types of an input that melt makes values for."""
_KINDS = "biuf"
"""numpy's letters for what can be compared as numbers."""

Array = npt.NDArray[Any]


class OnnxParams(Strict):
    """`params` of a workload for this engine."""

    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    inter_threads: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    spin: bool = True
    graph_level: Literal["disable", "basic", "extended", "all"] = "all"
    provider: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")] = "cpu"
    provider_options: Mapping[Annotated[str, Field(pattern=r"^[^=\s]{1,128}$")], str] = Field(default_factory=dict)


class OnnxRuntime:
    """Runs ONNX models; keeps this computer's reference outputs for as long as it lives."""

    name = "onnxruntime"

    def __init__(self) -> None:
        self._references: dict[str, dict[str, Array]] = {}

    def prepare(self, request: Request) -> Prepared:
        params = _params(request)
        session = _open(request.model_file)
        arrays = _inputs(request, session)
        synthetic = session.get_modelmeta().custom_metadata_map.get("melt.synthetic") == "true"
        if not synthetic:
            _refuse_weights_apart(request)
        files = {"model": request.model_file}
        files.update({f"input.{name}": stored(_raw(array)) for name, array in arrays.items()})
        if request.library is None:
            files["library"] = _library(request)
        files["program"] = build("ort_runner", request.machine, here=request.here, say=request.say)
        identity = {
            "model_sha256": _digest_file(request.model_file),
            "inputs_sha256": _digest(
                b"".join(f"{n} {a.dtype} {a.shape}".encode() + a.tobytes() for n, a in arrays.items())
            ),
            **{key: value for key, value in params.model_dump().items() if key != "provider_options"},
            "provider_options": dict(sorted(params.provider_options.items())),
        }
        return Prepared(
            request=request,
            files=files,
            params=params.model_dump(),
            synthetic=synthetic,
            identity=identity,
            detail=arrays,
        )

    def command(self, prepared: Prepared, place: Callable[[str], str], job_dir: str) -> Command:
        params, stop = prepared.params, prepared.request.stop
        argv = [place("program"), "--lib", prepared.request.library or place("library"), "--model", place("model")]
        argv += ["--events", f"{job_dir}/events.jsonl", "--output", f"{job_dir}/output.bin"]
        argv += ["--threads", str(params["threads"]), "--inter-threads", str(params["inter_threads"])]
        argv += ["--spin", "1" if params["spin"] else "0", "--graph-level", params["graph_level"]]
        argv += ["--provider", params["provider"]]
        for key, value in params["provider_options"].items():
            argv += ["--provider-option", f"{key}={value}"]
        for name, array in prepared.detail.items():
            dims = "x".join(map(str, array.shape)) or "-"
            argv += ["--input", name, array.dtype.name, dims, place(f"input.{name}")]
        argv += ["--warmup-n", str(stop.warmup_n), "--warmup-s", decimal(stop.warmup_s)]
        argv += ["--min-n", str(stop.min_n), "--min-s", decimal(stop.min_s)]
        return Command(tuple(argv))

    def trial(self, prepared: Prepared, place: Callable[[str], str]) -> Command:
        return Command((place("program"), "--try", prepared.request.library or place("library")))

    def adopt(self, prepared: Prepared, folder: Path) -> Mapping[str, Metric]:
        del prepared, folder
        return {}  # its runner writes nothing but events

    def check(self, prepared: Prepared, output: Path) -> OutputCheck:
        if not output.exists():
            return OutputCheck(None, None, None, "the run left no outputs")
        data = output.read_bytes()
        if not data:
            return OutputCheck(None, None, None, "the runner kept no outputs: the event 'outputs' says why")
        try:
            got = read_outputs(data)
        except ValueError as error:
            return OutputCheck(_digest(data), None, None, f"the outputs cannot be read: {error}")
        key = str(sorted(prepared.identity.items()))
        if key not in self._references:
            try:
                self._references[key] = _reference(prepared)
            except Exception as error:  # noqa: BLE001 - whatever it is, the device's run stands by itself
                return OutputCheck(_digest(data), None, None, f"this computer cannot run the model: {_first(error)}")
        return _compare(got, self._references[key], _digest(data))


def _params(request: Request) -> OnnxParams:
    try:
        return OnnxParams.model_validate(dict(request.params))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            hint = nearest(key, OnnxParams.model_fields)
            raise UsageError(
                f"workload '{request.name}': engine onnxruntime has no parameter '{key}': {hint}"
            ) from None
        raise UsageError(
            f"workload '{request.name}': params.{key}: {problem['msg']} (it is {reprlib.repr(problem['input'])})"
        ) from None


def _runtime() -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        raise UsageError("engine onnxruntime needs the package of that name: pip install 'melt[onnx]'")
    # Wheels since 1.29 report to their maker unless told not to before the import; a measurement tells nobody.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415 - an optional extra

    return onnxruntime


def _open(model: Path) -> Any:
    """The model in this computer's ONNX Runtime: the check that it is one, and the reference for its outputs."""
    ort = _runtime()
    if not model.is_file():
        raise UsageError(f"model {model} does not exist: correct 'path' in the workload")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the binding raises a different class for each kind of bad file
        raise UsageError(f"{model} is not a model that ONNX Runtime can load: {_first(error)}") from None


def _first(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _refuse_weights_apart(request: Request) -> None:
    """A model whose weights lie in other files would arrive without them. Raises UsageError."""
    if importlib.util.find_spec("onnx") is None:
        raise UsageError("engine onnxruntime needs the package onnx: pip install 'melt[onnx]'")
    import onnx  # noqa: PLC0415 - an optional extra, and slow to load

    try:
        graph = onnx.load(request.model_file, load_external_data=False).graph
    except Exception:  # noqa: BLE001 - ONNX Runtime could load it: it is of its own format, which has no such files
        return
    apart = [tensor.name for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if apart:
        raise UsageError(
            f"workload '{request.name}': {request.model_file} keeps {len(apart)} of its weights in files of their own, "
            "which melt does not deliver: save it as one file (onnx.save_model without save_as_external_data)",
        )


def _inputs(request: Request, session: Any) -> dict[str, Array]:
    """Seeded values for every input, in the shape that the model or the workload says."""
    wanted = {i.name: i for i in session.get_inputs()}
    for name in request.inputs:
        if name not in wanted:
            raise UsageError(f"workload '{request.name}': the model has no input '{name}': {nearest(name, wanted)}")
    return {name: _values(request.name, node, request.inputs.get(name, InputShape())) for name, node in wanted.items()}


def _values(workload: str, node: Any, asked: InputShape) -> Array:
    if node.type not in _TYPES:
        raise Unsupported(
            f"workload '{workload}': input '{node.name}' is a {node.type}, which melt cannot make values for"
        )
    dims = [d if isinstance(d, int) and d > 0 else None for d in node.shape]
    shown = "x".join("?" if d is None else str(d) for d in dims) or "scalar"
    shape = asked.shape if asked.shape is not None else tuple(d for d in dims if d is not None)
    fits = len(shape) == len(dims) and all(d is None or d == s for d, s in zip(dims, shape, strict=False))
    if not fits:
        said = (
            f"the workload says {'x'.join(map(str, shape))}"
            if asked.shape is not None
            else "its open sizes (?) are not said"
        )
        raise UsageError(
            f"workload '{workload}': input '{node.name}' of the model has shape {shown} and {said}: correct "
            f"inputs.{node.name}.shape",
        )
    dtype = np.dtype(_TYPES[node.type])
    if math.prod(shape) * dtype.itemsize > _MAX_INPUT_BYTES:
        raise UsageError(
            f"workload '{workload}': input '{node.name}' would be larger than 1 GiB: choose a smaller shape"
        )
    random = np.random.default_rng(asked.seed)
    if dtype.kind == "f":
        return random.standard_normal(shape, dtype=np.float32).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)  # 0 and 1 are valid tokens, masks and flags everywhere


def _raw(array: Array) -> bytes:
    """The values, little-endian."""
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _library(request: Request) -> Path:
    if request.machine != platform.machine():
        return onnxruntime_library(request.machine, request.say)
    folder = Path(_runtime().__file__).parent / "capi"
    found = sorted(folder.glob("libonnxruntime.so*"))
    if not found:
        raise Unsupported(f"{folder} has no libonnxruntime.so: install onnxruntime 1.20 or later")
    return found[0]


def _reference(prepared: Prepared) -> dict[str, Array]:
    session = _open(prepared.request.model_file)
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, prepared.detail), strict=True))


_MAX_HEADER = 4096
_HEADER = re.compile(
    rb"(\S*) (bool|u?int(?:8|16|32|64)|float(?:16|32|64)) (-|[0-9]{1,12}(?:x[0-9]{1,12}){0,31}) ([0-9]{1,12})"
)


def read_outputs(data: bytes) -> dict[str, Array]:
    """The tensors of an output file: for each a line `NAME DTYPE DIMS BYTES`, then its bytes. Raises ValueError."""
    out: dict[str, Array] = {}
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        found = _HEADER.fullmatch(data, at, end) if 0 <= end - at <= _MAX_HEADER else None
        if found is None:
            raise ValueError(f"the line of a tensor is broken at byte {at}")
        quoted, kind, dims, size = (word.decode("ascii") for word in found.groups())
        name, dtype = urllib.parse.unquote(quoted), np.dtype(kind).newbyteorder("<")
        shape = () if dims == "-" else tuple(map(int, dims.split("x")))
        if math.prod(shape) * dtype.itemsize != int(size):
            raise ValueError(f"output '{name:.60}' of shape {dims} and type {kind} cannot have {size} bytes")
        raw = data[end + 1 : end + 1 + int(size)]
        if len(raw) != int(size):
            raise ValueError(f"output '{name:.60}' is cut")
        if name in out:
            raise ValueError(f"output '{name:.60}' stands twice")
        out[name] = np.frombuffer(raw, dtype=dtype).reshape(shape)
        at = end + 1 + int(size)
    return out


def _compare(got: Mapping[str, Array], wanted: Mapping[str, Array], sha256: str) -> OutputCheck:
    worst, worst_share = 0.0, 0.0
    for name, reference in wanted.items():
        if not isinstance(reference, np.ndarray) or reference.dtype.kind not in _KINDS:
            return OutputCheck(sha256, None, None, f"output '{name}' is not a tensor of numbers")
        if name not in got or (got[name].shape, got[name].dtype) != (reference.shape, reference.dtype):
            return OutputCheck(sha256, None, False, f"output '{name}' is missing or of another shape or type")
        ours, theirs = got[name].astype(np.float64), reference.astype(np.float64)
        finite = np.isfinite(theirs)
        if not np.array_equal(np.where(finite, 0.0, theirs), np.where(np.isfinite(ours), 0.0, ours), equal_nan=True):
            return OutputCheck(sha256, None, False, f"output '{name}' is not finite in the same places")
        difference = float(np.max(np.abs(ours[finite] - theirs[finite]), initial=0.0))
        largest = float(np.max(np.abs(theirs[finite]), initial=0.0))
        worst = max(worst, difference)
        worst_share = max(worst_share, difference / largest if largest else difference)
    detail = f"this computer's onnxruntime, CPU: {worst_share:.2g} of the largest value, {_TOLERANCE:g} allowed"
    return OutputCheck(sha256, worst, worst_share <= _TOLERANCE, detail)


def _digest_file(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
