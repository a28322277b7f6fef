"""A network under construction: operations and random weights in plain Python, turned into ONNX at the end.

The weights are byte-identical on every machine: PCG64's raw stream and its seeding are the part of numpy
that is promised never to change, and the way from 24 random bits to a float32 is exact but for one rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

OPSET = 17
"""The first with LayerNormalization; ONNX Runtime runs it since 1.12."""

IR_VERSION = 8
"""The file format that came with opset 17."""

REVISION = 1
"""Raised whenever the same name and seed would give other bytes."""

SEED_MAX = 2**63 - 1

FLOAT = np.dtype("<f4")
INDEX = np.dtype("<i8")

Array = np.ndarray[Any, np.dtype[Any]]


def need_onnx() -> None:
    """Raise UsageError when the optional package onnx is absent: called before anything imports it."""
    try:
        import onnx  # noqa: F401, PLC0415 - an optional extra, so not at the top
    except ImportError as error:
        msg = "making or reading a model needs the onnx package: pip install 'melt[onnx]'"
        raise UsageError(msg) from error


@dataclass(frozen=True)
class _Node:
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


@dataclass
class Graph:
    """Collects nodes and weights; each method that adds something returns the name of the tensor it adds."""

    name: str
    """The maker's name: the graph's too."""
    seed: int
    nodes: list[_Node] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= SEED_MAX:
            raise UsageError(f"seed {self.seed}: give a whole number from 0 to {SEED_MAX}")
        self._bits = np.random.PCG64(self.seed)

    # ------------------------------------------------------------------------------------------ tensors

    def constant(self, name: str, values: Array) -> str:
        """A tensor with given values."""
        if name in self.tensors:
            raise ValueError(f"two tensors are named {name}")
        self.tensors[name] = values
        return name

    def uniform(self, name: str, shape: Sequence[int], bound: float, centre: float = 0.0) -> str:
        """Random weights, uniform in [centre - bound, centre + bound)."""
        count = math.prod(shape)
        words = self._bits.random_raw((count + 1) // 2).astype("<u8").view("<u4")[:count]
        steps = (words >> 8).astype(FLOAT)  # 24 bits: what a float32 holds exactly
        unit = steps * FLOAT.type(2.0**-23) - FLOAT.type(1)
        values = unit * FLOAT.type(bound)
        if centre:
            values += FLOAT.type(centre)
        return self.constant(name, values.reshape(shape))

    def weight(self, name: str, shape: Sequence[int], fan_in: int, *, rectified: bool) -> str:
        """Random weights that keep the variance of what passes through (He et al. 2015, eq. 10).

        `rectified`: what follows sets half of it to zero, so the weights make up for that.
        """
        return self.uniform(name, shape, math.sqrt((6 if rectified else 3) / fan_in))

    def bias(self, name: str, size: int) -> str:
        return self.uniform(name, (size,), 0.1)

    # ------------------------------------------------------------------------------------------- layers

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """One operation; its only output has the node's name."""
        self.nodes.append(_Node(op, tuple(inputs), name, attributes))
        return name

    def conv(
        self,
        x: str,
        name: str,
        channels: tuple[int, int],
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
        rectified: bool = True,
    ) -> str:
        """A square 2-D convolution with bias from `channels[0]` to `channels[1]`, padded by kernel // 2."""
        into, out = channels
        pad = kernel // 2 if padding is None else padding
        fan_in = into // groups * kernel * kernel
        shape = (out, into // groups, kernel, kernel)
        inputs = (
            x,
            self.weight(f"{name}.weight", shape, fan_in, rectified=rectified),
            self.bias(f"{name}.bias", out),
        )
        return self.node(
            "Conv",
            inputs,
            name,
            group=groups,
            kernel_shape=[kernel, kernel],
            pads=[pad] * 4,
            strides=[stride, stride],
        )

    def gemm(self, x: str, name: str, into: int, out: int, *, rectified: bool = False) -> str:
        """A fully connected layer with bias on a matrix of rows."""
        weight = self.weight(f"{name}.weight", (out, into), into, rectified=rectified)
        return self.node("Gemm", (x, weight, self.bias(f"{name}.bias", out)), name, transB=1)

    # -------------------------------------------------------------------------------------------- model

    def model(
        self,
        *,
        summary: str,
        input_shape: Sequence[int],
        output_shape: Sequence[int],
        notes: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """The finished network: float32 tensor `input` to float32 tensor `logits`, labelled synthetic.

        `notes` are written beside the label, each under `melt.<key>`. Raises UsageError without onnx.
        """
        need_onnx()
        from onnx import TensorProto, helper  # noqa: PLC0415 - an optional extra, so not at the top

        proto = helper.make_graph(
            nodes=[helper.make_node(n.op, n.inputs, [n.output], name=n.output, **n.attributes) for n in self.nodes],
            name=self.name,
            inputs=[helper.make_tensor_value_info("input", TensorProto.FLOAT, input_shape)],
            outputs=[helper.make_tensor_value_info("logits", TensorProto.FLOAT, output_shape)],
            initializer=[
                helper.make_tensor(
                    name,
                    TensorProto.FLOAT if values.dtype == FLOAT else TensorProto.INT64,
                    values.shape,
                    np.ascontiguousarray(values).tobytes(),
                    raw=True,
                )
                for name, values in self.tensors.items()
            ],
        )
        model = helper.make_model(
            proto,
            producer_name="melt",
            producer_version=str(REVISION),
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
            doc_string=f"Synthetic: {summary}. Random weights of seed {self.seed}; it has no accuracy.",
        )
        labels = {"synthetic": "true", "maker": self.name, "seed": str(self.seed), **(notes or {})}
        for key, value in labels.items():
            model.metadata_props.add(key=f"melt.{key}", value=value)
        return model
