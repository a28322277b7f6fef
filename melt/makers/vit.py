"""ViT-Ti/16 at 224 x 224: the tiny vision transformer of Touvron et al. 2021 (DeiT-Ti without distillation).

12 blocks of width 192 with 3 heads over 14 x 14 patches and a class token: 5 717 416 parameters. It takes
1 253 683 200 multiply-accumulates, of which 178 831 872 are the two products inside attention. The usual
1.26 G is this with 5 operations added for each element that a layer norm writes (4.7 M in all), and 1.08 G
is the same without the products inside attention, which a counter of layers does not see.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from melt.makers.graph import FLOAT, INDEX, Graph

if TYPE_CHECKING:
    import onnx

NAME = "vit-tiny"
SUMMARY = "ViT-Ti/16 at 224x224, float32"

IMAGE = 224
PATCH = 16
WIDTH = 192
HEADS = 3
DEPTH = 12
MLP_WIDTH = 4 * WIDTH
CLASSES = 1000
PATCHES = (IMAGE // PATCH) ** 2
TOKENS = PATCHES + 1
EPSILON = 1e-6


def build(seed: int) -> onnx.ModelProto:
    """The network: `input` (1, 3, 224, 224) to `logits` (1, 1000)."""
    g = Graph(NAME, seed)
    net = _Network(g)
    x = g.conv("input", "patch", (3, WIDTH), kernel=PATCH, stride=PATCH, padding=0, rectified=False)
    x = net.reshape(x, "patch.rows", (1, WIDTH, PATCHES))
    x = g.node("Transpose", (x,), "patch.tokens", perm=[0, 2, 1])
    x = g.node("Concat", (g.uniform("class_token", (1, 1, WIDTH), 1.0), x), "tokens", axis=1)
    x = g.node("Add", (x, g.uniform("position", (1, TOKENS, WIDTH), 0.5)), "embedded")
    for index in range(DEPTH):
        x = net.block(x, f"block{index}")
    x = net.norm(x, "norm")
    x = g.node("Gather", (x, net.first), "class", axis=1)
    g.gemm(x, "logits", WIDTH, CLASSES)
    return g.model(summary=SUMMARY, input_shape=(1, 3, IMAGE, IMAGE), output_shape=(1, CLASSES))


class _Network:
    """The composite layers of this network, and the constants that its blocks share."""

    def __init__(self, graph: Graph) -> None:
        self.g = graph
        self.first, self.second, self.third = (graph.constant(f"index{i}", np.array(i, INDEX)) for i in range(3))
        self.half, self.one, self.root2 = (
            graph.constant(name, np.array(value, FLOAT))
            for name, value in (("half", 0.5), ("one", 1.0), ("root2", math.sqrt(2.0)))
        )
        self.scale = graph.constant("scale", np.array(1 / math.sqrt(WIDTH // HEADS), FLOAT))

    def block(self, x: str, name: str) -> str:
        g = self.g
        y = self.attention(self.norm(x, f"{name}.norm1"), f"{name}.attention")
        x = g.node("Add", (x, y), f"{name}.add1")
        y = self.linear(self.norm(x, f"{name}.norm2"), f"{name}.mlp.fc1", WIDTH, MLP_WIDTH, rectified=True)
        y = self.gelu(y, f"{name}.mlp.gelu")
        y = self.linear(y, f"{name}.mlp.fc2", MLP_WIDTH, WIDTH)
        return g.node("Add", (x, y), f"{name}.add2")

    def attention(self, x: str, name: str) -> str:
        """Self-attention of 3 heads of 64; queries, keys and values from one product."""
        g, head = self.g, WIDTH // HEADS
        x = self.linear(x, f"{name}.qkv", WIDTH, 3 * WIDTH)
        x = self.reshape(x, f"{name}.heads", (1, TOKENS, 3, HEADS, head))
        x = g.node("Transpose", (x,), f"{name}.parts", perm=[2, 0, 3, 1, 4])
        q = g.node("Gather", (x, self.first), f"{name}.q", axis=0)
        k = g.node("Gather", (x, self.second), f"{name}.k", axis=0)
        v = g.node("Gather", (x, self.third), f"{name}.v", axis=0)
        q = g.node("Mul", (q, self.scale), f"{name}.scaled")
        k = g.node("Transpose", (k,), f"{name}.kt", perm=[0, 1, 3, 2])
        a = g.node("MatMul", (q, k), f"{name}.scores")
        a = g.node("Softmax", (a,), f"{name}.softmax", axis=-1)
        y = g.node("MatMul", (a, v), f"{name}.mixed")
        y = g.node("Transpose", (y,), f"{name}.joined", perm=[0, 2, 1, 3])
        y = self.reshape(y, f"{name}.rows", (1, TOKENS, WIDTH))
        return self.linear(y, f"{name}.proj", WIDTH, WIDTH)

    def norm(self, x: str, name: str) -> str:
        g = self.g
        inputs = (x, g.uniform(f"{name}.weight", (WIDTH,), 0.1, centre=1.0), g.bias(f"{name}.bias", WIDTH))
        return g.node("LayerNormalization", inputs, name, axis=-1, epsilon=EPSILON)

    def linear(self, x: str, name: str, into: int, out: int, *, rectified: bool = False) -> str:
        """A fully connected layer on rows of tokens, which Gemm does not take."""
        g = self.g
        weight = g.weight(f"{name}.weight", (into, out), into, rectified=rectified)
        y = g.node("MatMul", (x, weight), f"{name}.product")
        return g.node("Add", (y, g.bias(f"{name}.bias", out)), name)

    def gelu(self, x: str, name: str) -> str:
        """x/2 · (1 + erf(x/√2)), spelt out: ONNX has no Gelu before opset 20."""
        g = self.g
        y = g.node("Div", (x, self.root2), f"{name}.div")
        y = g.node("Erf", (y,), f"{name}.erf")
        y = g.node("Add", (y, self.one), f"{name}.add")
        y = g.node("Mul", (x, y), f"{name}.mul")
        return g.node("Mul", (y, self.half), name)

    def reshape(self, x: str, name: str, shape: tuple[int, ...]) -> str:
        target = self.g.constant(f"{name}.shape", np.array(shape, INDEX))
        return self.g.node("Reshape", (x, target), name)
