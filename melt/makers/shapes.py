"""The shape of every tensor in a graph, stated or inferred. Needs onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto
from onnx.shape_inference import InferenceError, infer_shapes

from melt.makers.census import elements

if TYPE_CHECKING:
    from collections.abc import Mapping

Shape = tuple[int | str, ...]
"""A dimension is a number, the name of a free one, or UNNAMED."""

UNNAMED = "?"

KEPT_ELEMENTS = 1024
"""Constants up to this size keep their values, for they may be shapes; larger ones are weights."""


class Unknown(Exception):
    """Something about a graph cannot be told; the text says why."""


def shapes_of(model: onnx.ModelProto) -> Mapping[str, Shape]:
    """The shape of each tensor whose rank is known, by name; raises Unknown when inference fails.

    The model is not changed, and its weights are not copied.
    """
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)

    shapes: dict[str, Shape] = {}
    listed = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
        if elements(tensor) <= KEPT_ELEMENTS and tensor.data_location != TensorProto.EXTERNAL:
            graph.initializer.append(tensor)
        elif tensor.name not in listed:  # what is not given by value is given by shape
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    try:
        inferred = infer_shapes(light, data_prop=True).graph
    except (InferenceError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise Unknown(f"the shapes of the graph do not fit together ({text!r})") from error
    for values in (inferred.value_info, inferred.input, inferred.output):
        for value in values:
            if value.type.tensor_type.HasField("shape"):
                shapes.setdefault(value.name, dimensions(value.type.tensor_type.shape))
    return shapes


def dimensions(shape: onnx.TensorShapeProto) -> Shape:
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or UNNAMED for d in shape.dim)
