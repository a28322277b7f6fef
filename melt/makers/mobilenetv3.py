"""MobileNetV3-Large 1.0 at 224 x 224, the layers of Howard et al. 2019 (table 1) as torchvision has them.

Batch normalisation is folded into the convolution before it, as in every exported inference graph: a
convolution's weights and one bias for each channel stand where weights, a scale and a shift stood. So the
file holds one number fewer for each normalised channel than the 5 483 032 parameters that torchvision
publishes; how many fewer is in the file's metadata, under `melt.folded_batch_norm_channels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from melt.makers.graph import Graph

if TYPE_CHECKING:
    import onnx

NAME = "mobilenetv3-large"
SUMMARY = (
    "MobileNetV3-Large 1.0 at 224x224, float32, batch normalisation folded"
    " (so 12200 parameters fewer than the published 5483032)"
)

Activation = Literal["Relu", "HardSwish"]


class Block(NamedTuple):
    """One row of the paper's table 1: an inverted residual block."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    activation: Activation
    stride: int


BLOCKS = (
    Block(3, 16, 16, False, "Relu", 1),
    Block(3, 64, 24, False, "Relu", 2),
    Block(3, 72, 24, False, "Relu", 1),
    Block(5, 72, 40, True, "Relu", 2),
    Block(5, 120, 40, True, "Relu", 1),
    Block(5, 120, 40, True, "Relu", 1),
    Block(3, 240, 80, False, "HardSwish", 2),
    Block(3, 200, 80, False, "HardSwish", 1),
    Block(3, 184, 80, False, "HardSwish", 1),
    Block(3, 184, 80, False, "HardSwish", 1),
    Block(3, 480, 112, True, "HardSwish", 1),
    Block(3, 672, 112, True, "HardSwish", 1),
    Block(5, 672, 160, True, "HardSwish", 2),
    Block(5, 960, 160, True, "HardSwish", 1),
    Block(5, 960, 160, True, "HardSwish", 1),
)
STEM = 16
LAST_CONV = 960
HIDDEN = 1280
CLASSES = 1000


def build(seed: int) -> onnx.ModelProto:
    """The network: `input` (1, 3, 224, 224) to `logits` (1, 1000)."""
    g = Graph(NAME, seed)
    net = _Network(g)
    x = net.conv_bn("input", "stem", (3, STEM), "HardSwish", kernel=3, stride=2)
    channels = STEM
    for index, block in enumerate(BLOCKS):
        x = net.block(x, f"block{index}", channels, block)
        channels = block.out
    x = net.conv_bn(x, "last", (channels, LAST_CONV), "HardSwish")
    x = g.node("GlobalAveragePool", (x,), "pool")
    x = g.node("Flatten", (x,), "flat", axis=1)
    x = g.gemm(x, "hidden", LAST_CONV, HIDDEN, rectified=True)
    x = g.node("HardSwish", (x,), "hidden.act")
    g.gemm(x, "logits", HIDDEN, CLASSES)
    return g.model(
        summary=SUMMARY,
        input_shape=(1, 3, 224, 224),
        output_shape=(1, CLASSES),
        notes={"folded_batch_norm_channels": str(net.folded)},
    )


def squeezed(expanded: int) -> int:
    """The width inside squeeze-and-excite: a quarter, to the nearest 8 but never below nine tenths of it."""
    target = expanded // 4
    nearest_8 = max(8, (target + 4) // 8 * 8)
    return nearest_8 if nearest_8 >= 0.9 * target else nearest_8 + 8


class _Network:
    """The composite layers of this network, and how many channels had a batch normalisation."""

    def __init__(self, graph: Graph) -> None:
        self.g = graph
        self.folded = 0

    def conv_bn(
        self,
        x: str,
        name: str,
        channels: tuple[int, int],
        activation: Activation | None,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> str:
        x = self.g.conv(
            x,
            name,
            channels,
            kernel=kernel,
            stride=stride,
            groups=groups,
            rectified=activation is not None,
        )
        self.folded += channels[1]
        return self.g.node(activation, (x,), f"{name}.act") if activation else x

    def block(self, x: str, name: str, channels: int, b: Block) -> str:
        """Expand, filter each channel by itself, re-weigh the channels, project; add the input if it fits."""
        y = x
        if b.expanded != channels:
            y = self.conv_bn(y, f"{name}.expand", (channels, b.expanded), b.activation)
        wide = (b.expanded, b.expanded)
        y = self.conv_bn(
            y,
            f"{name}.depthwise",
            wide,
            b.activation,
            kernel=b.kernel,
            stride=b.stride,
            groups=b.expanded,
        )
        if b.squeeze:
            y = self.squeeze_excite(y, f"{name}.se", b.expanded)
        y = self.conv_bn(y, f"{name}.project", (b.expanded, b.out), None)
        fits = b.stride == 1 and channels == b.out
        return self.g.node("Add", (y, x), f"{name}.add") if fits else y

    def squeeze_excite(self, x: str, name: str, channels: int) -> str:
        g, inner = self.g, squeezed(channels)
        s = g.node("GlobalAveragePool", (x,), f"{name}.pool")
        s = g.conv(s, f"{name}.fc1", (channels, inner))
        s = g.node("Relu", (s,), f"{name}.act")
        s = g.conv(s, f"{name}.fc2", (inner, channels), rectified=False)
        s = g.node("HardSigmoid", (s,), f"{name}.gate", alpha=1 / 6, beta=0.5)
        return g.node("Mul", (x, s), f"{name}.scale")
