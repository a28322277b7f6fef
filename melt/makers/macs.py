"""The multiply-accumulates of one inference, from shapes alone. Needs onnx.

Counted are those of convolutions and matrix products, which is what papers mean by MACs (half of their
FLOPs); normalisations, activations, pooling and element-wise work count as nothing. An operation that is on
neither list could hide any number of them, so it makes the count unknown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from melt.makers.census import op_name
from melt.makers.shapes import Unknown, shapes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx

    from melt.makers.shapes import Shape

FREE = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift
    BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Compress Concat Constant
    ConstantOfShape Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal
    Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu GlobalAveragePool GlobalMaxPool
    Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization
    IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool Max
    MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu
    Pad Pow QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence
    Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
    Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu
    Unique Unsqueeze Upsample Where Xor
    """.split()  # noqa: SIM905 - a hundred names, one a line, would be read by nobody
)
"""Standard operations without a convolution or a matrix product."""


def macs(model: onnx.ModelProto) -> tuple[int | None, str | None]:
    """The count and None, or None and the reason why it is not known."""
    try:
        shapes = shapes_of(model)
        return sum(_of_node(node, shapes) for node in model.graph.node), None
    except Unknown as unknown:
        return None, str(unknown)


class _Operands:
    """The shapes around one node, all numbers; Unknown with a sentence that names the tensor otherwise."""

    def __init__(self, node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> None:
        self._node = node
        self._shapes = shapes

    def input(self, index: int, least: int) -> tuple[int, ...]:
        return self._shape(self._node.input, index, least)

    def output(self) -> tuple[int, ...]:
        return self._shape(self._node.output, 0, 0)

    def flag(self, name: str) -> bool:
        return any(a.name == name and a.i for a in self._node.attribute)

    def _shape(self, names: Sequence[str], index: int, least: int) -> tuple[int, ...]:
        name = names[index] if index < len(names) else ""
        tensor = f"tensor {name!r} of {op_name(self._node)} {self._node.name!r}"
        if name not in self._shapes:
            raise Unknown(f"the shape of {tensor} is not known")
        shape = self._shapes[name]
        numbers = tuple(d for d in shape if isinstance(d, int) and d >= 0)
        if len(numbers) < len(shape):
            free = next(d for d in shape if not (isinstance(d, int) and d >= 0))
            raise Unknown(f"{tensor} has the free dimension {free!r}: the count depends on it")
        if len(numbers) < least:
            raise Unknown(f"{tensor} has {len(numbers)} dimensions and needs {least}")
        return numbers


def _conv(o: _Operands, weight: int = 1) -> int:
    """Each output element costs the weights of one filter: channels in the group times the kernel."""
    return math.prod(o.output()) * math.prod(o.input(weight, 3)[1:])


def _qlinear_conv(o: _Operands) -> int:
    return _conv(o, weight=3)


def _conv_transpose(o: _Operands) -> int:
    """Each input element is spread over the channels out of its group times the kernel."""
    return math.prod(o.input(0, 3)) * math.prod(o.input(1, 3)[1:])


def _gemm(o: _Operands) -> int:
    return math.prod(o.output()) * o.input(0, 2)[0 if o.flag("transA") else 1]


def _matmul(o: _Operands) -> int:
    """Each output element, of any batch, costs the dimension that is summed over."""
    return math.prod(o.output()) * o.input(0, 1)[-1]


COUNTED: Mapping[str, Callable[[_Operands], int]] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": _qlinear_conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
}


def _of_node(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    name = op_name(node)
    if name in FREE:
        return 0
    if name not in COUNTED:
        raise Unknown(f"operation {name} (node {node.name!r}) is not among those that can be counted")
    return COUNTED[name](_Operands(node, shapes))
