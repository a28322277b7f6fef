"""The networks have the published shapes and counts, run, and are the same bytes everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

from melt.makers import MAKERS
from melt.makers.mobilenetv3 import squeezed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from melt.makers import ModelInfo

    Made = Mapping[str, ModelInfo]

PUBLISHED_MOBILENET_PARAMETERS = 5_483_032  # torchvision: batch normalisation as a scale and a shift
BYTES_OF_SEED_1 = {
    "mobilenetv3-large": "8afdd524cbf18e1d78ac57e8bac914ab0d2c7de9e2d9b61223a74501ef8c14aa",
    "vit-tiny": "4cb87f7f42199da075dfbe5cd4fa8be7446cdc71ebb8b123df1687179858a1b5",
    "mlp": "dd31586ef4d8935da038a822e228e8a53a7174048478ec81c1cdcdbdb5f1c728",
}
"""Changes only together with melt.makers.graph.REVISION."""


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("name", MAKERS)
def test_a_made_file_is_valid_onnx_with_consistent_shapes(made: Made, name: str) -> None:
    onnx.checker.check_model(onnx.load(made[name].path), full_check=True)


@pytest.mark.parametrize("name", MAKERS)
def test_a_made_file_needs_nothing_newer_than_opset_17_and_file_format_10(made: Made, name: str) -> None:
    assert made[name].opset == 17
    assert onnx.load(made[name].path).ir_version <= 10


@pytest.mark.parametrize("name", MAKERS)
def test_a_network_runs_on_cpu_and_its_finite_outputs_follow_its_input(made: Made, name: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(made[name].path, options, providers=["CPUExecutionProvider"])
    shape = made[name].inputs[0].shape
    draws = np.random.default_rng(7)
    outputs = [session.run(["logits"], {"input": draws.standard_normal(shape, dtype=np.float32)})[0] for _ in range(2)]
    assert outputs[0].shape == made[name].outputs[0].shape
    assert all(np.isfinite(o).all() for o in outputs)
    assert all(0.1 < o.std() < 10 for o in outputs)
    assert np.abs(outputs[0] - outputs[1]).mean() > 0.01


@pytest.mark.parametrize("name", MAKERS)
def test_seed_1_gives_the_pinned_bytes_on_every_machine(made: Made, name: str) -> None:
    assert made[name].sha256 == BYTES_OF_SEED_1[name]


@pytest.mark.parametrize("name", MAKERS)
def test_another_seed_changes_every_weight_tensor_and_no_shape(made: Made, name: str) -> None:
    ours = onnx.load(made[name].path).graph
    theirs = MAKERS[name].build(2).graph
    assert list(ours.node) == list(theirs.node)
    for a, b in zip(ours.initializer, theirs.initializer, strict=True):
        assert (a.name, a.dims, a.data_type) == (b.name, b.dims, b.data_type)
        is_weight = a.data_type == onnx.TensorProto.FLOAT and a.dims
        assert (a.raw_data != b.raw_data) == bool(is_weight)


def test_mobilenetv3_large_and_its_folded_normalisations_have_the_published_parameters(made: Made) -> None:
    model = made["mobilenetv3-large"]
    folded = int(metadata(model.path)["melt.folded_batch_norm_channels"])
    assert model.parameters == 5_470_832
    assert model.parameters + folded == PUBLISHED_MOBILENET_PARAMETERS
    assert f"{folded} parameters fewer than the published {PUBLISHED_MOBILENET_PARAMETERS}" in model.description


def test_mobilenetv3_large_says_how_many_channels_were_normalised(made: Made) -> None:
    path = made["mobilenetv3-large"].path
    shapes = weight_shapes(path)
    normalised = sum(
        shapes[node.input[2]][0]
        for node in onnx.load(path).graph.node
        if node.op_type == "Conv" and ".se." not in node.name
    )
    assert metadata(path)["melt.folded_batch_norm_channels"] == str(normalised)


def test_mobilenetv3_large_takes_the_published_217_million_macs(made: Made) -> None:
    assert made["mobilenetv3-large"].macs == 216_589_760
    assert round(216_589_760 / 1e9, 3) == 0.217  # torchvision; the paper's table 3 says 219 M


def test_mobilenetv3_large_ends_in_960_maps_of_7_by_7(made: Made) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load(made["mobilenetv3-large"].path)).graph
    shape = next(v.type.tensor_type.shape for v in graph.value_info if v.name == "last.act")
    assert [d.dim_value for d in shape.dim] == [1, 960, 7, 7]


def test_mobilenetv3_large_squeezes_to_the_published_widths(made: Made) -> None:
    shapes = weight_shapes(made["mobilenetv3-large"].path)
    widths = [shape[:2] for name, shape in shapes.items() if name.endswith(".se.fc1.weight")]
    assert widths == [
        (24, 72), (32, 120), (32, 120), (120, 480), (168, 672), (168, 672), (240, 960), (240, 960),
    ]  # fmt: skip
    assert squeezed(16) == 8


def test_vit_tiny_has_the_published_parameters(made: Made) -> None:
    assert made["vit-tiny"].parameters == 5_717_416


def test_vit_tiny_takes_the_macs_of_its_layers_and_of_its_attention(made: Made) -> None:
    tokens, width, depth = 14 * 14 + 1, 192, 12
    patches = (tokens - 1) * width * 3 * 16 * 16
    layers = depth * tokens * (3 + 1 + 4 + 4) * width**2
    attention = depth * 2 * tokens**2 * width
    head = width * 1000
    assert made["vit-tiny"].macs == patches + layers + attention + head == 1_253_683_200
    norms = 5 * (2 * depth + 1) * tokens * width  # what the usual counter adds for normalisation
    assert round((1_253_683_200 + norms) / 1e9, 2) == 1.26
    assert round((1_253_683_200 + norms - attention) / 1e9, 2) == 1.08


def test_the_toy_has_three_layers(made: Made) -> None:
    assert made["mlp"].parameters == 785 * 256 + 257 * 128 + 129 * 10
    assert made["mlp"].macs == 784 * 256 + 256 * 128 + 128 * 10
    assert made["mlp"].ops == {"Gemm": 3, "Relu": 2}
