"""`info` describes any ONNX file, and answers everything else with one sentence."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from melt.errors import UsageError
from melt.makers import TensorInfo, info

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from melt.makers import ModelInfo

    Made = Mapping[str, ModelInfo]


def small(shape: tuple[int | str | None, ...] | None = (1, 4), element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 2], [0.5] * 8)
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "small",
            [
                helper.make_tensor_value_info("x", element, shape),
                helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2]),  # as old exporters list it
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
            [weight],
        ),
        opset_imports=[helper.make_opsetid("com.example", 3), helper.make_opsetid("", 15)],
        ir_version=8,
        producer_name="somebody",
        producer_version="2.1",
        doc_string="a line\x1b[31m",
    )


def written(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "small.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_info_tells_what_the_file_holds(tmp_path: Path) -> None:
    path = written(small(), tmp_path)
    told = info(path)
    assert told.path == path
    assert told.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told.size_bytes == path.stat().st_size
    assert told.producer == "somebody 2.1"
    assert told.opset == 15
    assert told.inputs == (TensorInfo(name="x", dtype="float32", shape=(1, 4)),)
    assert told.outputs == (TensorInfo(name="y", dtype="float32", shape=(1, 2)),)
    assert (told.parameters, told.macs, told.macs_reason) == (8, 8, None)
    assert (told.nodes, told.ops) == (1, {"MatMul": 1})
    assert (told.synthetic, told.seed) == (False, None)
    assert told.external_files == ()


def test_info_survives_a_round_trip_through_json(made: Made) -> None:
    for told in made.values():
        assert type(told).model_validate_json(told.model_dump_json()) == told


def test_a_strangers_words_come_without_control_characters(tmp_path: Path) -> None:
    assert info(written(small(), tmp_path)).description == "a line [31m"


def test_free_dimensions_keep_their_names(tmp_path: Path) -> None:
    told = info(written(small(("batch", None)), tmp_path))
    assert told.inputs[0].shape == ("batch", "?")


def test_free_dimensions_that_matter_leave_the_macs_open(tmp_path: Path) -> None:
    model = small(("batch", 4))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2]))
    told = info(written(model, tmp_path))
    assert told.macs is None
    assert told.macs_reason is not None
    assert "'batch'" in told.macs_reason


def test_a_shape_that_is_not_stated_is_told_apart_from_a_scalar(tmp_path: Path) -> None:
    assert info(written(small(None), tmp_path)).inputs[0].shape == ("...",)
    assert info(written(small(()), tmp_path)).inputs[0].shape == ()


@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.INT64, "int64"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.BFLOAT16, "bfloat16"),
        (99, "unknown99"),
    ],
)
def test_element_types_have_numpys_names(tmp_path: Path, element: int, dtype: str) -> None:
    assert info(written(small(element=element), tmp_path)).inputs[0].dtype == dtype


def test_an_input_that_is_not_a_tensor_says_so(tmp_path: Path) -> None:
    model = small()
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2]))
    model.graph.input.append(helper.make_value_info("s", kind))
    assert info(written(model, tmp_path)).inputs[1] == TensorInfo(name="s", dtype="sequence", shape=("...",))


def test_weights_in_other_files_are_counted_by_shape_and_never_opened(tmp_path: Path) -> None:
    model = small()
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/absent")
    told = info(written(model, tmp_path))
    assert told.external_files == ("../../etc/absent",)
    assert (told.parameters, told.macs) == (8, 8)


@pytest.mark.parametrize("seed", ["-1", "1e3", "", "9" * 19, "9" * 5000])
def test_a_seed_that_melt_did_not_write_is_no_seed(tmp_path: Path, seed: str) -> None:
    model = small()
    model.metadata_props.add(key="melt.seed", value=seed)
    assert info(written(model, tmp_path)).seed is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}/absent.onnx: no such file"):
        info(tmp_path / "absent.onnx")


def test_a_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        info(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello world, this is no model\n" * 20, id="text"),
        pytest.param(b"schema: 1\nkind: workload\n", id="yaml"),
        pytest.param(bytes(1000), id="zeros"),
        pytest.param(b"PK\x03\x04" + bytes(range(256)), id="archive"),
        pytest.param(b"GGUF\x03\0\0\0" + bytes(64), id="another model format"),
    ],
)
def test_a_file_that_is_not_onnx_is_refused_in_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="not an ONNX model") as caught:
        info(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_model_is_refused(made: Made, tmp_path: Path, share: float) -> None:
    data = made["mlp"].path.read_bytes()
    path = tmp_path / "m.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UsageError, match="cut short"):
        info(path)


def test_a_model_without_outputs_is_refused(tmp_path: Path) -> None:
    model = small()
    del model.graph.output[:]
    with pytest.raises(UsageError, match="lacks a graph with outputs"):
        info(written(model, tmp_path))


def test_a_file_beyond_the_limit_of_the_format_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # a hole: it takes no space
    with pytest.raises(UsageError, match="more than one ONNX file can hold"):
        info(path)


DAMAGE = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(damage=DAMAGE, keep=st.floats(0.2, 1))
def test_whatever_a_damaged_file_holds_the_answer_is_a_description_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(small().SerializeToString())
    for where, value in damage:
        data[int(where * len(data))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(data[: int(keep * len(data))])
    try:
        told = info(path)
    except UsageError:
        return
    assert type(told).model_validate_json(told.model_dump_json()) == told
