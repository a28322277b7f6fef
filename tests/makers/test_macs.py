"""Multiply-accumulates and parameters of small graphs against counts made by hand."""

from __future__ import annotations

import math
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from melt.makers.census import parameters
from melt.makers.macs import COUNTED, FREE, macs

Shapes = dict[str, tuple[int | str, ...]]


def graph(
    nodes: list[onnx.NodeProto],
    inputs: Shapes,
    weights: Shapes | None = None,
    element: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model whose output `y` has no stated shape: it must be inferred."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info(name, element, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info("y", element, None)],
            [
                helper.make_tensor(name, element, shape, b"\0" * 4 * math.prod(shape), raw=True)
                for name, shape in (weights or {}).items()
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def node(op: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["y"], name="the-node", **attributes)


@pytest.mark.parametrize(
    ("operation", "inputs", "weights", "count"),
    [
        pytest.param(
            node("Conv", "x", "w", pads=[1] * 4), {"x": (1, 3, 8, 8)}, {"w": (8, 3, 3, 3)},
            8 * 8 * 8 * 3 * 9, id="convolution",
        ),
        pytest.param(
            node("Conv", "x", "w", group=8, strides=[2, 2], pads=[1] * 4),
            {"x": (2, 8, 8, 8)}, {"w": (8, 1, 3, 3)},
            2 * 8 * 4 * 4 * 9, id="depthwise, strided, batch of 2",
        ),
        pytest.param(
            node("Conv", "x", "w", group=2), {"x": (1, 4, 10)}, {"w": (6, 2, 3)},
            6 * 8 * 2 * 3, id="two groups in one dimension",
        ),
        pytest.param(
            node("Conv", "x", "w", dilations=[2, 2]), {"x": (1, 1, 9, 9)}, {"w": (1, 1, 3, 3)},
            5 * 5 * 9, id="dilated",
        ),
        pytest.param(
            node("ConvTranspose", "x", "w", strides=[2, 2]), {"x": (1, 4, 5, 5)}, {"w": (4, 2, 2, 2)},
            4 * 5 * 5 * 2 * 4, id="transposed convolution",
        ),
        pytest.param(
            node("Gemm", "x", "w", transB=1), {"x": (2, 3)}, {"w": (5, 3)}, 2 * 3 * 5, id="rows times W'",
        ),
        pytest.param(
            node("Gemm", "x", "w", transA=1), {"x": (3, 2)}, {"w": (3, 5)}, 2 * 3 * 5, id="columns times W",
        ),
        pytest.param(
            node("MatMul", "x", "w"), {"x": (2, 3, 4, 5)}, {"w": (5, 6)}, 2 * 3 * 4 * 5 * 6, id="batched",
        ),
        pytest.param(
            node("MatMul", "x", "z"), {"x": (2, 1, 4, 5), "z": (3, 5, 6)}, {},
            2 * 3 * 4 * 5 * 6, id="broadcast batches, no weights",
        ),
        pytest.param(node("MatMul", "x", "w"), {"x": (7,)}, {"w": (7,)}, 7, id="two vectors"),
        pytest.param(node("MatMul", "x", "w"), {"x": (5,)}, {"w": (5, 6)}, 30, id="vector times matrix"),
        pytest.param(node("Softmax", "x"), {"x": (1, 1000)}, {}, 0, id="nothing to count"),
    ],
)  # fmt: skip
def test_macs_are_those_counted_by_hand(operation: onnx.NodeProto, inputs: Shapes, weights: Shapes, count: int) -> None:
    assert macs(graph([operation], inputs, weights)) == (count, None)


def test_a_weight_too_large_to_be_kept_counts_by_its_shape() -> None:
    model = graph([node("MatMul", "x", "w")], {"x": (1, 3000)}, {"w": (3000, 7)})
    assert macs(model) == (21_000, None)


def test_a_shape_computed_inside_the_graph_is_followed() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["dims"], start=0, end=1),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Concat", ["dims", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        node("MatMul", "flat", "w"),
    ]
    assert macs(graph(nodes, {"x": (2, 3, 4)}, {"w": (12, 5)})) == (2 * 12 * 5, None)


def test_an_integer_convolution_counts_like_a_float_one() -> None:
    scale = [helper.make_tensor(name, TensorProto.FLOAT, [], [1.0]) for name in ("sx", "sw", "sy")]
    zero = [helper.make_tensor(name, TensorProto.INT8, [], [0]) for name in ("zx", "zw", "zy")]
    inputs = ("x", "sx", "zx", "w", "sw", "zw", "sy", "zy")
    model = graph([node("QLinearConv", *inputs)], {"x": (1, 3, 8, 8)}, element=TensorProto.INT8)
    weight = helper.make_tensor("w", TensorProto.INT8, [4, 3, 3, 3], bytes(108), raw=True)
    model.graph.initializer.extend([*scale, *zero, weight])
    assert macs(model) == (4 * 6 * 6 * 27, None)
    assert parameters(model) == 108


def test_a_free_dimension_leaves_the_count_open_and_names_itself() -> None:
    count, reason = macs(graph([node("MatMul", "x", "w")], {"x": ("batch", 4)}, {"w": (4, 5)}))
    assert count is None
    assert reason is not None
    assert "'batch'" in reason
    assert "'the-node'" in reason


@pytest.mark.parametrize(
    "operation",
    [node("Einsum", "x", "x", equation="ij,ij->i"), node("FusedMatMul", "x", "x", domain="com.example")],
)
def test_an_operation_that_may_hide_macs_leaves_the_count_open(operation: onnx.NodeProto) -> None:
    model = graph([operation], {"x": (4, 4)})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    count, reason = macs(model)
    assert count is None
    assert reason is not None
    assert operation.op_type in reason


def test_shapes_that_contradict_each_other_leave_the_count_open() -> None:
    count, reason = macs(graph([node("MatMul", "x", "w")], {"x": (1, 4)}, {"w": (5, 6)}))
    assert count is None
    assert reason is not None


def test_a_tensor_of_unknown_rank_leaves_the_count_open() -> None:
    model = graph([node("MatMul", "x", "w")], {}, {"w": (4, 5)})
    model.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    count, reason = macs(model)
    assert count is None
    assert reason is not None
    assert "'y'" in reason


def test_counting_leaves_the_model_as_it_was() -> None:
    model = graph([node("MatMul", "x", "w")], {"x": (1, 3000)}, {"w": (3000, 7)})
    before = model.SerializeToString(deterministic=True)
    macs(model)
    assert model.SerializeToString(deterministic=True) == before


def test_every_operation_on_the_lists_exists_in_onnx_once() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    newer = {"RMSNormalization", "Swish"}  # since opsets 23 and 24, which the oldest allowed onnx lacks
    assert known | newer >= FREE | set(COUNTED)
    assert not FREE & set(COUNTED)


def test_parameters_leave_out_running_statistics_shapes_and_single_numbers() -> None:
    nodes = [
        helper.make_node("BatchNormalization", ["x", "gamma", "beta", "mean", "var"], ["n"]),
        helper.make_node("Mul", ["n", "factor"], ["m"]),
        helper.make_node("Reshape", ["m", "target"], ["y"]),
    ]
    model = graph(nodes, {"x": (1, 6, 2, 2)}, dict.fromkeys(("gamma", "beta", "mean", "var"), (6,)))
    model.graph.initializer.append(helper.make_tensor("target", TensorProto.INT64, [2], [1, -1]))
    model.graph.initializer.append(helper.make_tensor("factor", TensorProto.FLOAT, [], [2.0]))
    assert parameters(model) == 12


def test_parameters_inside_constants_and_branches_are_counted() -> None:
    weight = helper.make_tensor("value", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    branch = helper.make_graph(
        [helper.make_node("Identity", ["held"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])],
        [helper.make_tensor("held", TensorProto.FLOAT, [4], [0.0] * 4)],
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=weight),
        helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch),
    ]
    assert parameters(graph(nodes, {"x": ()}, element=TensorProto.BOOL)) == 3 + 4 + 4
