"""A toy: three fully connected layers, 784-256-128-10, that run in microseconds. For tests."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from melt.makers.graph import Graph

if TYPE_CHECKING:
    import onnx

NAME = "mlp"
SUMMARY = "a toy multilayer perceptron, 784-256-128-10, float32"

SIZES = (784, 256, 128, 10)


def build(seed: int) -> onnx.ModelProto:
    """The network: `input` (1, 784) to `logits` (1, 10)."""
    g = Graph(NAME, seed)
    x = "input"
    layers = list(pairwise(SIZES))
    for index, (into, out) in enumerate(layers[:-1]):
        x = g.gemm(x, f"fc{index}", into, out, rectified=True)
        x = g.node("Relu", (x,), f"relu{index}")
    g.gemm(x, "logits", *layers[-1])
    return g.model(summary=SUMMARY, input_shape=(1, SIZES[0]), output_shape=(1, SIZES[-1]))
