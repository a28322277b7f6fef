"""What a graph is made of: operations and parameters, also inside branches and loops. Needs onnx."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

STANDARD_DOMAINS = ("", "ai.onnx")

NOT_PARAMETERS: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "Resize": (1, 2),
    "Upsample": (1,),
}
"""Inputs that hold no learnt parameter: running statistics, scales and offsets of quantisation, sizes."""

INDEX_TYPES = (TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING)
"""Types in which a graph keeps shapes, indices and masks, never weights."""


def op_name(node: onnx.NodeProto) -> str:
    """`Conv` for a standard operation, `domain.Name` for any other."""
    return node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}.{node.op_type}"


def operations(model: onnx.ModelProto) -> Counter[str]:
    """How many nodes of each operation the graph holds."""
    return Counter(op_name(node) for graph in _walk(model.graph) for node in graph.node)


def parameters(model: onnx.ModelProto) -> int:
    """How many learnt numbers the graph holds, as frameworks count them.

    These are the elements of its constant tensors, except single numbers, shapes, indices, running
    statistics, and the scales and offsets of quantisation.
    """
    return sum(_held(graph) for graph in _walk(model.graph))


def external_files(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names, as the model writes them, of the files beside it that hold weights. Not to be trusted."""
    return tuple(
        sorted(
            {
                entry.value
                for graph in _walk(model.graph)
                for _, tensor in _constants(graph)
                if tensor.data_location == TensorProto.EXTERNAL
                for entry in tensor.external_data
                if entry.key == "location"
            }
        )
    )


def elements(tensor: TensorProto | onnx.SparseTensorProto) -> int:
    """How many elements the dimensions promise; the data may lie in another file."""
    return math.prod(max(0, d) for d in tensor.dims)


def _walk(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _walk(attribute.g)
            for inner in attribute.graphs:
                yield from _walk(inner)


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if op_name(node) == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield node.output[0], attribute.t


def _held(graph: onnx.GraphProto) -> int:
    excluded = {
        node.input[i] for node in graph.node for i in NOT_PARAMETERS.get(op_name(node), ()) if i < len(node.input)
    }
    dense = (
        elements(tensor)
        for name, tensor in _constants(graph)
        if tensor.dims and tensor.data_type not in INDEX_TYPES and name not in excluded
    )
    return sum(dense) + sum(elements(sparse) for sparse in graph.sparse_initializer)
