"""The ONNX Runtime engine on this side: what it refuses and how, the values it makes, and how it compares outputs."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from melt import makers
from melt.engines import InputShape, OutputCheck, Prepared, Request, StopRules
from melt.engines.onnxruntime import OnnxRuntime, read_outputs
from melt.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

Outputs = dict[str, Any]
STOP = StopRules(0.0, 0, 0.0, 1)


def model(path: Path, inputs: Any, outputs: Any, *nodes: Any) -> Path:
    """Writes a model; `inputs` and `outputs` are (name, type, shape)."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def identity(path: Path, kind: int = TensorProto.FLOAT, shape: Any = (1, 4), name: str = "x") -> Path:
    node = helper.make_node("Identity", [name], ["y"])
    return model(path, [(name, kind, list(shape))], [("y", kind, list(shape))], node)


def prepare(path: Path, **changes: Any) -> Prepared:
    values: dict[str, Any] = {"machine": platform.machine(), "params": {}, "inputs": {}, "stop": STOP}
    return OnnxRuntime().prepare(Request(name="small", model=path, **values | changes))


def refusal(path: Path, error: type[Exception] = UsageError, **changes: Any) -> str:
    with pytest.raises(error) as caught:
        prepare(path, **changes)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def words_after(prepared: Prepared, flag: str) -> list[str]:
    argv = OnnxRuntime().command(prepared, str, "/j").argv
    return [argv[i + 1] for i, word in enumerate(argv) if word == flag]


# ----------------------------------------------------------------------------------------------------------- models


def test_what_is_not_a_model_is_refused_with_its_path(tmp_path: Path) -> None:
    makers.make("mlp", tmp_path / "good.onnx")
    good = (tmp_path / "good.onnx").read_bytes()
    broken = {
        "empty": b"",
        "text": b"This is not a model.\n" * 20,
        "zeros": bytes(10_000),
        "an archive": b"PK\x03\x04" + good[4:],
        "cut": good[: len(good) // 2],
        "all but a byte": good[:-1],
        "its head": good[:20],
        "random": np.random.default_rng(1).bytes(10_000),
    }
    for name, data in broken.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        assert f"{path} is not a model that ONNX Runtime can load" in refusal(path), name


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, tmp_path / "missing.onnx", pipe):
        assert f"model {path} does not exist" in refusal(path)


def test_a_model_with_an_operator_that_nobody_has_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOperator", ["x"], ["y"])
    path = model(tmp_path / "m.onnx", [("x", 1, [1])], [("y", 1, [1])], node)
    assert "NoSuchOperator" in refusal(path)


# ----------------------------------------------------------------------------------------------------------- inputs


def test_a_shape_that_does_not_fit_is_told_with_the_input_and_both_shapes(tmp_path: Path) -> None:
    path = identity(tmp_path / "m.onnx", shape=(1, "n", 4))
    for shape in ((1, 4), (2, 3, 4), (1, 3, 5), (), (1, 3, 4, 1)):
        sentence = refusal(path, inputs={"x": InputShape(shape)})
        assert "input 'x' of the model has shape 1x?x4" in sentence
        assert f"the workload says {'x'.join(map(str, shape))}" in sentence
        assert "inputs.x.shape" in sentence


def test_a_size_that_is_open_and_not_said_is_told(tmp_path: Path) -> None:
    for shape in ((None, 4), ("batch", 4), (0, 4), (-1, 4)):
        sentence = refusal(identity(tmp_path / "m.onnx", shape=shape))
        assert "input 'x' of the model has shape ?x4 and its open sizes (?) are not said" in sentence
    prepared = prepare(identity(tmp_path / "m.onnx", shape=("batch", 4)), inputs={"x": InputShape((3, 4))})
    assert prepared.detail["x"].shape == (3, 4)


def test_an_input_that_the_model_lacks_is_told_with_the_nearest(tmp_path: Path) -> None:
    path = identity(tmp_path / "m.onnx", name="pixel_values")
    sentence = refusal(path, inputs={"pixel_value": InputShape()})
    assert "the model has no input 'pixel_value': did you mean 'pixel_values'?" in sentence


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.UINT16, TensorProto.BFLOAT16, TensorProto.UINT64])
def test_a_type_that_melt_makes_no_values_for_is_unsupported(tmp_path: Path, kind: int) -> None:
    sentence = refusal(identity(tmp_path / "m.onnx", kind=kind), Unsupported)
    assert "input 'x' is a tensor(" in sentence


@pytest.mark.parametrize("shape", [(2**31,) * 2, (2**31,) * 60, (1 << 28, 2)])
def test_an_input_larger_than_a_gibibyte_is_refused_and_never_made(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = identity(tmp_path / "m.onnx", shape=[None] * len(shape))
    assert "larger than 1 GiB" in refusal(path, inputs={"x": InputShape(shape)})


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT, "float32"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.INT64, "int64"),
        (TensorProto.INT32, "int32"),
        (TensorProto.INT8, "int8"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.BOOL, "bool"),
    ],
)
def test_values_are_seeded_and_stored_as_they_are_given_to_the_runner(tmp_path: Path, kind: int, dtype: str) -> None:
    path = identity(tmp_path / "m.onnx", kind=kind, shape=(2, 30))
    first, same = prepare(path), prepare(path)
    other = prepare(path, inputs={"x": InputShape(seed=2)})
    array = first.detail["x"]
    assert (array.dtype.name, array.shape) == (dtype, (2, 30))
    assert array.tobytes() == same.detail["x"].tobytes() != other.detail["x"].tobytes()
    assert first.identity == same.identity != other.identity
    assert first.files["input.x"].read_bytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
    if array.dtype.kind != "f":
        assert set(np.unique(array).tolist()) == {0, 1}
    argv = OnnxRuntime().command(first, str, "/j").argv
    at = argv.index("--input")
    assert argv[at + 1 : at + 5] == ("x", dtype, "2x30", "input.x")


def test_a_scalar_input_is_said_with_a_dash(tmp_path: Path) -> None:
    argv = OnnxRuntime().command(prepare(identity(tmp_path / "m.onnx", shape=())), str, "/j").argv
    assert argv[argv.index("--input") + 3] == "-"


def test_a_model_without_inputs_is_prepared(tmp_path: Path) -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0])
    path = model(tmp_path / "m.onnx", [], [("y", 1, [2])], helper.make_node("Constant", [], ["y"], value=value))
    assert words_after(prepare(path), "--input") == []


def test_a_cache_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    identity(tmp_path / "m.onnx")
    program = (
        "import sys, pathlib, platform; from melt.engines import *; from melt.errors import UsageError\n"
        "request = Request('w', pathlib.Path(sys.argv[1]), platform.machine(), {}, {}, StopRules(0, 0, 0, 1))\n"
        "try: engine_named('onnxruntime').prepare(request)\n"
        "except UsageError as error: print(error)\n"
    )
    argv = [sys.executable, "-c", program, tmp_path / "m.onnx"]
    env = {**os.environ, "XDG_CACHE_HOME": "/proc"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert "cache folder /proc/melt/inputs cannot be written" in done.stdout
    assert "XDG_CACHE_HOME" in done.stdout


# ------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"thread": 2}, "no parameter 'thread': did you mean 'threads'"),
        ({"threads": 0}, "params.threads"),
        ({"threads": 1025}, "params.threads"),
        ({"threads": "2"}, "params.threads"),
        ({"threads": True}, "params.threads"),
        ({"threads": 1.5}, "params.threads"),
        ({"threads": None}, "params.threads"),
        ({"threads": float("nan")}, "params.threads"),
        ({"threads": 10**400}, "params.threads"),
        ({"threads": "x" * 100_000}, "params.threads"),
        ({"inter_threads": -1}, "params.inter_threads"),
        ({"spin": "maybe"}, "params.spin"),
        ({"graph_level": "full"}, "params.graph_level"),
        ({"provider": ""}, "params.provider"),
        ({"provider": "a b"}, "params.provider"),
        ({"provider": "../x"}, "params.provider"),
        ({"provider_options": {"a=b": "c"}}, "params.provider_options"),
        ({"provider_options": {"": "c"}}, "params.provider_options"),
        ({"provider_options": {"a": 1}}, "params.provider_options.a"),
        ({"provider_options": "a=b"}, "params.provider_options"),
    ],
)
def test_a_parameter_out_of_its_range_is_told_with_its_value(tmp_path: Path, params: Any, named: str) -> None:
    sentence = refusal(identity(tmp_path / "m.onnx"), params=params)
    assert sentence.startswith("workload 'small': ")
    assert named in sentence


def test_the_parameters_reach_the_runner(tmp_path: Path) -> None:
    params = {
        "threads": 3,
        "inter_threads": 2,
        "spin": "no",
        "graph_level": "basic",
        "provider": "XNNPACK",
        "provider_options": {"intra_op_num_threads": "3", "k": "a=b c"},
    }
    prepared = prepare(identity(tmp_path / "m.onnx"), params=params, stop=StopRules(0.5, 3, 30.0, 64))
    said = {
        flag: words_after(prepared, flag)
        for flag in ("--threads", "--inter-threads", "--spin", "--graph-level", "--provider", "--provider-option")
    }
    assert said == {
        "--threads": ["3"],
        "--inter-threads": ["2"],
        "--spin": ["0"],
        "--graph-level": ["basic"],
        "--provider": ["XNNPACK"],
        "--provider-option": ["intra_op_num_threads=3", "k=a=b c"],
    }
    stop = [words_after(prepared, flag)[0] for flag in ("--warmup-n", "--warmup-s", "--min-n", "--min-s")]
    assert stop == ["3", "0.5", "64", "30.0"]


def test_another_processor_needs_a_library_that_is_on_the_device(tmp_path: Path) -> None:
    path = identity(tmp_path / "m.onnx")
    assert "engines.onnxruntime.library" in refusal(path, Unsupported, machine="riscv64")
    assert "library" not in prepare(path, machine="aarch64", library="/opt/libonnxruntime.so").files


# ---------------------------------------------------------------------------------------------------------- outputs


def written(outputs: Outputs) -> bytes:
    """The outputs as the runner writes them."""
    data = b""
    for name, value in outputs.items():
        array = np.asarray(value)
        dims = "x".join(map(str, array.shape)) or "-"
        raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
        data += f"{quote(name, safe='')} {array.dtype.name} {dims} {len(raw)}\n".encode() + raw
    return data


EVERY = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b\n %é": np.array(7, dtype=np.int64),
    "nothing": np.zeros((0, 5), dtype=np.float64),
    "flags": np.array([True, False]),
    "half": np.array([1.5, np.nan], dtype=np.float16),
    "": np.array([1, 2, 255], dtype=np.uint8),
}


def test_outputs_come_back_as_they_were() -> None:
    read = read_outputs(written(EVERY))
    assert list(read) == list(EVERY)
    for name, array in EVERY.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == array.tobytes()
    assert read_outputs(b"") == {}


def test_cut_at_any_byte_outputs_are_a_value_error_or_those_before() -> None:
    data = written(EVERY)
    whole = {len(written(dict(list(EVERY.items())[:n]))): n for n in range(len(EVERY) + 1)}
    for end in range(len(data) + 1):
        if end in whole:
            assert list(read_outputs(data[:end])) == list(EVERY)[: whole[end]]
        else:
            with pytest.raises(ValueError):
                read_outputs(data[:end])


@pytest.mark.parametrize(
    "header",
    [
        b"y float32 4 -16",
        b"y float32 -4 16",
        b"y float32 -1 16",
        b"y float32 4x-1 16",
        b"y float32 4 15",
        b"y float32 4 17",
        b"y float32 5 16",
        b"y float32 - 16",
        b"y float32 0 16",
        b"y float32  16",
        b"y float32 x 16",
        b"y float32 4x 16",
        b"y float32 2x2x 16",
        b"y float32 4.0 16",
        b"y float32 4_0 160",
        b"y float32 +4 16",
        b"y float32 999999999999x999999999999 16",
        b"y float32 " + b"x".join([b"999999999999"] * 32) + b" 16",
        b"y float32 " + b"x".join([b"1"] * 65) + b" 4",
        b"y float32 4 " + b"9" * 5000,
        b"y float32 4 99999999999999999999",
        b"y float32 " + b"9" * 5000 + b" 16",
        b"y object 2 16",
        b"y O 2 16",
        b"y f4,f4 2 16",
        b"y (1000,1000)f8 2 16",
        b"y V16 1 16",
        b"y S16 1 16",
        b"y float128 1 16",
        b"y complex64 2 16",
        b"y datetime64[ns] 2 16",
        b"y float32\0 4 16",
        b"y FLOAT32 4 16",
        "y float32 ٤ 16".encode(),
        "ÿ float32 4 16".encode("latin-1"),
        b"y float32 4",
        b"y float32 4 16 more",
        b"y\tfloat32\t4\t16",
        b" y float32 4 16",
        b"",
        b"y" * 100_000,
    ],
)
def test_a_hostile_line_is_a_value_error(header: bytes) -> None:
    with pytest.raises(ValueError):
        read_outputs(header + b"\n" + bytes(16))
    with pytest.raises(ValueError):
        read_outputs(written({"a": np.zeros(3, np.float32)}) + header + b"\n" + bytes(16))


def test_an_output_that_stands_twice_is_a_value_error() -> None:
    one = written({"a": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="twice"):
        read_outputs(one + one)


@given(st.binary(max_size=200))
@example(b"%00 float32 1 4\n\0\0\0\0")
@example(b"%FF%FE float32 1 4\n\0\0\0\0")
def test_random_outputs_are_read_or_a_value_error(data: bytes) -> None:
    for text in (data, b"y " + data, b"y float32 " + data, b"y float32 1 4\n" + data):
        read: Outputs = {}
        try:
            read = read_outputs(text)
        except ValueError:
            continue
        assert sum(array.nbytes for array in read.values()) <= len(text)


# -------------------------------------------------------------------------------------------------------- comparing


@pytest.fixture
def echo(tmp_path: Path) -> Prepared:
    """A model whose output is its input, 4 values."""
    return prepare(identity(tmp_path / "echo.onnx"))


def checked(prepared: Prepared, path: Path, outputs: Outputs) -> OutputCheck:
    path.write_bytes(written(outputs))
    return OnnxRuntime().check(prepared, path)


def shifted(values: npt.NDArray[Any], share: float) -> Outputs:
    """The values, one of them off by a share of the largest."""
    changed = values.astype(np.float64)
    changed.flat[0] += share * np.max(np.abs(changed))
    return {"y": changed.astype(values.dtype)}


def test_the_same_outputs_agree_with_no_difference(echo: Prepared, tmp_path: Path) -> None:
    check = checked(echo, tmp_path / "o", {"y": echo.detail["x"]})
    assert (check.agrees, check.max_abs_diff) == (True, 0.0)
    assert check.sha256 is not None
    assert len(check.sha256) == 64


def test_outputs_agree_within_a_thousandth_of_the_largest_value(echo: Prepared, tmp_path: Path) -> None:
    largest = float(np.max(np.abs(echo.detail["x"])))
    near = checked(echo, tmp_path / "near", shifted(echo.detail["x"], 0.9e-3))
    far = checked(echo, tmp_path / "far", shifted(echo.detail["x"], 1.1e-3))
    assert (near.agrees, far.agrees) == (True, False)
    assert near.max_abs_diff == pytest.approx(0.9e-3 * largest, rel=1e-3)
    assert "0.001 allowed" in far.detail
    assert near.sha256 != far.sha256


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_where_it_should_be_does_not_agree(
    echo: Prepared, tmp_path: Path, odd: float
) -> None:
    values = echo.detail["x"].copy()
    values[0, 1] = odd
    check = checked(echo, tmp_path / "o", {"y": values})
    assert (check.agrees, check.max_abs_diff) == (False, None)
    assert "'y' is not finite in the same places" in check.detail


def test_what_is_not_finite_has_to_be_the_same(tmp_path: Path) -> None:
    x = helper.make_tensor("v", TensorProto.FLOAT, [4], [math.nan, math.inf, -math.inf, 2.0])
    node = helper.make_node("Constant", [], ["y"], value=x)
    prepared = prepare(model(tmp_path / "m.onnx", [], [("y", 1, [4])], node))

    def agrees(*values: float) -> bool | None:
        return checked(prepared, tmp_path / "o", {"y": np.array(values, np.float32)}).agrees

    assert agrees(math.nan, math.inf, -math.inf, 2.0) is True
    assert agrees(math.inf, math.nan, -math.inf, 2.0) is False
    assert agrees(math.nan, -math.inf, math.inf, 2.0) is False
    assert agrees(math.nan, math.inf, -math.inf, 3.0) is False
    assert agrees(0.0, math.inf, -math.inf, 2.0) is False


def test_an_output_that_is_missing_or_of_another_shape_or_type_does_not_agree(echo: Prepared, tmp_path: Path) -> None:
    values = echo.detail["x"]
    for outputs in ({"z": values}, {"y": values.reshape(4)}, {"y": values.astype(np.float64)}, {"y": values[:, :3]}):
        check = checked(echo, tmp_path / "o", outputs)
        assert check.agrees is False
        assert "'y' is missing or of another shape or type" in check.detail


@pytest.mark.parametrize("value", [0.0, 1e-4])
def test_outputs_that_are_all_zero_are_compared_as_they_are(tmp_path: Path, value: float) -> None:
    zero = helper.make_tensor("v", TensorProto.FLOAT, [2], [0.0, 0.0])
    path = model(tmp_path / "m.onnx", [], [("y", 1, [2])], helper.make_node("Constant", [], ["y"], value=zero))
    check = checked(prepare(path), tmp_path / "o", {"y": np.array([0.0, value], np.float32)})
    assert (check.agrees, check.max_abs_diff) == (True, pytest.approx(value))
    assert checked(prepare(path), tmp_path / "o", {"y": np.array([0.0, 0.1], np.float32)}).agrees is False


def test_empty_outputs_agree(tmp_path: Path) -> None:
    none = helper.make_tensor("v", TensorProto.FLOAT, [0, 3], [])
    path = model(tmp_path / "m.onnx", [], [("y", 1, [0, 3])], helper.make_node("Constant", [], ["y"], value=none))
    check = checked(prepare(path), tmp_path / "o", {"y": np.zeros((0, 3), np.float32)})
    assert (check.agrees, check.max_abs_diff) == (True, 0.0)


def test_outputs_that_are_no_numbers_are_not_compared(tmp_path: Path) -> None:
    word = helper.make_tensor("v", TensorProto.STRING, [1], [b"word"])
    path = model(tmp_path / "s.onnx", [], [("y", 8, [1])], helper.make_node("Constant", [], ["y"], value=word))
    assert checked(prepare(path), tmp_path / "o", {"y": np.zeros(1, np.float32)}).agrees is None
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, [1])],
        [helper.make_tensor_sequence_value_info("y", 1, [1])],
    )
    sequence = tmp_path / "q.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), sequence)
    check = checked(prepare(sequence), tmp_path / "o", {"y": np.zeros(1, np.float32)})
    assert check.agrees is None
    assert "not a tensor of numbers" in check.detail


def test_a_runner_that_kept_no_outputs_is_no_mismatch(echo: Prepared, tmp_path: Path) -> None:
    check = checked(echo, tmp_path / "o", {})
    assert (check.agrees, check.sha256) == (None, None)
    assert "kept no outputs" in check.detail


def test_a_model_that_this_computer_cannot_run_is_not_compared(tmp_path: Path) -> None:
    seven = helper.make_tensor("v", TensorProto.INT64, [1], [7])
    nodes = (
        helper.make_node("Constant", [], ["shape"], value=seven),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    )
    path = model(tmp_path / "m.onnx", [("x", 1, ["n"])], [("y", 1, [7])], *nodes)
    check = checked(prepare(path, inputs={"x": InputShape((3,))}), tmp_path / "o", {"y": np.zeros(7, np.float32)})
    assert check.agrees is None
    assert "this computer cannot run the model" in check.detail


def test_this_computers_outputs_are_made_once(echo: Prepared, tmp_path: Path) -> None:
    engine, path = OnnxRuntime(), tmp_path / "o"
    path.write_bytes(written({"y": echo.detail["x"]}))
    assert engine.check(echo, path).agrees is True
    echo.request.model.unlink()
    assert engine.check(echo, path).agrees is True, "the model is not needed again"


def test_a_model_with_its_weights_in_other_files_is_refused_before_it_arrives_without_them(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [512], np.zeros(512, np.float32).tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [512])],
        [weights],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "apart.onnx"
    onnx.save_model(whole, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert "1 of its weights in files of their own" in refusal(path)
