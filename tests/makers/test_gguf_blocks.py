"""Random blocks, read back by the package gguf's own dequantisers: finite, centred, of the spread asked for."""

from __future__ import annotations

import hashlib
import math

import gguf
import numpy as np
import pytest

from melt.makers.gguf.blocks import LAYOUTS, around, key, weights

QUANTISED = [name for name in LAYOUTS if name != "F32"]
ROWS, COLUMNS = 256, 2048
SPREAD = 1 / math.sqrt(COLUMNS)


def made(name: str, stream: int = 7) -> bytes:
    return b"".join(chunk.tobytes() for chunk in weights(name, ROWS * COLUMNS, SPREAD, stream))


def read(name: str, data: bytes) -> np.ndarray:
    kind = gguf.GGMLQuantizationType[name]
    flat = np.frombuffer(data, "<f2" if name == "F16" else "u1")
    rows = flat.reshape(ROWS, -1)
    return rows.astype("<f4") if name == "F16" else gguf.quants.dequantize(rows, kind)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_block_has_ggmls_size(name: str) -> None:
    layout = LAYOUTS[name]
    assert (layout.elements, layout.bytes) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]


@pytest.mark.parametrize("name", QUANTISED)
def test_weights_are_finite_centred_and_of_the_spread_asked_for(name: str) -> None:
    values = read(name, made(name))
    assert values.shape == (ROWS, COLUMNS)
    assert np.isfinite(values).all()
    # scales below float16's normal numbers are steps of up to a hundredth
    assert float(values.std()) == pytest.approx(SPREAD, rel=0.03)
    assert abs(float(values.mean())) < SPREAD / 50
    # no row, and no block of the quantiser, is much larger or smaller than others: nothing explodes or vanishes
    assert float(values.std(axis=1).min()) / SPREAD > 0.6
    assert float(values.std(axis=1).max()) / SPREAD < 1.6
    assert float(np.abs(values).max()) < 12 * SPREAD


@pytest.mark.parametrize("name", QUANTISED)
def test_a_product_with_such_a_matrix_keeps_the_size_of_a_vector(name: str) -> None:
    x = np.random.default_rng(1).standard_normal(COLUMNS)
    assert float((read(name, made(name)) @ x).std()) == pytest.approx(1.0, rel=0.25)


@pytest.mark.parametrize("name", QUANTISED)
def test_the_stream_decides_the_bytes(name: str) -> None:
    assert made(name) == made(name)
    assert made(name) != made(name, stream=8)


def test_the_quantiser_never_writes_minus_128_and_neither_do_we() -> None:
    quantised = np.frombuffer(made("Q8_0"), LAYOUTS["Q8_0"].fields)["q"].view("i1")
    assert int(quantised.min()) == -127
    assert int(quantised.max()) == 127


def test_the_bytes_are_those_of_every_machine() -> None:
    """Changes only together with melt.makers.gguf.writer.REVISION: then files of the same name and seed change."""
    streams = hashlib.sha256(b"".join(made(name) for name in QUANTISED)).hexdigest()
    assert streams == "b390da1b0d4b3a5a1adb56fc439289e8bfe5a48e4fa110056cb7e98191772897"
    assert (
        hashlib.sha256(around(1.0, 0.1, 1001, 5).tobytes()).hexdigest()
        == "324ffebf101e4b5abe964912dc8e31560d0a542795b9d5f0615ef1647ab8aa50"
    )


def test_norms_are_within_their_bounds() -> None:
    values = around(1.0, 0.1, 10_001, 3)
    assert values.dtype == np.dtype("<f4")
    assert len(values) == 10_001
    assert 0.9 <= float(values.min()) < 0.901
    assert 1.099 < float(values.max()) <= 1.1


def test_different_words_have_different_streams() -> None:
    assert len({key("a", "bc"), key("ab", "c"), key("a", "b", "c"), key("abc"), key("a", 1), key("a", 2)}) == 6
    assert 0 <= key("x") < 2**128
