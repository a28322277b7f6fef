"""The shapes against what others publish of the real models: parameters, tensor types, sizes."""

from __future__ import annotations

from collections import Counter

import pytest

from melt.makers.gguf import NETWORKS, QUANTS
from melt.makers.gguf.tensors import tensors
from melt.makers.gguf.writer import rope_factors, size_bytes

GIB = 2**30

PUBLISHED = {
    # model cards on the hub, field "safetensors", of TinyLlama/TinyLlama-1.1B-Chat-v1.0 and of the others by name
    "tinyllama-1.1b": 1_100_048_384,
    "mistral-7b": 7_241_732_096,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    # the table on the model card of stabilityai/stablelm-3b-4e1t, which Zephyr 3B is a tuning of
    "zephyr-3b": 2_795_443_200,
    # arXiv 2403.08295, table 2: embedding and non-embedding parameters
    "gemma-2b": 524_550_144 + 1_981_884_416,
    "gemma-7b": 786_825_216 + 7_751_248_896,
}


def test_every_model_of_the_study_and_the_small_current_ones_can_be_made() -> None:
    assert set(NETWORKS) == {"llm-toy", *PUBLISHED}
    assert all(network.name == name and network.summary for name, network in NETWORKS.items())
    assert set(QUANTS) == {"f16", "q8_0", "q4_0", "q3_k", "q4_k"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_as_many_parameters_as_the_real_one(name: str) -> None:
    made = tensors(NETWORKS[name], QUANTS["f16"])
    parameters = sum(tensor.elements for tensor in made if not tensor.name.startswith("rope_freqs"))
    # Gemma's paper counts 128 padding tokens more than the released files hold; all others agree to the last one
    assert parameters == pytest.approx(PUBLISHED[name], rel=0.005 if name.startswith("gemma") else 0)


def test_the_toy_is_small() -> None:
    assert sum(t.elements for t in tensors(NETWORKS["llm-toy"], QUANTS["f16"])) == pytest.approx(5e6, rel=0.05)


@pytest.mark.parametrize(
    ("name", "quant", "published"),
    [
        # llama.cpp's loader printing Qwen2.5-0.5B-Instruct-Q4_K_M.gguf, in github.com/ollama/ollama/issues/9031:
        # the one with rows that are not whole blocks of a k-quant
        ("qwen2.5-0.5b", "q4_k", {"F32": 121, "Q5_0": 132, "Q8_0": 13, "Q4_K": 12, "Q6_K": 12}),
        # what `llama_model_quantize` of llama.cpp 0c1e57098 chose for a narrow model of the same layers and heads
        ("tinyllama-1.1b", "q4_0", {"F32": 45, "Q4_0": 155, "Q6_K": 1}),
        ("tinyllama-1.1b", "q4_k", {"F32": 45, "Q4_K": 135, "Q6_K": 21}),
        ("tinyllama-1.1b", "q3_k", {"F32": 45, "Q3_K": 89, "Q4_K": 63, "Q5_K": 3, "Q6_K": 1}),
        ("zephyr-3b", "q4_k", {"F32": 130, "Q4_K": 193, "Q6_K": 33}),
        ("llama-2-7b", "q3_k", {"F32": 65, "Q3_K": 129, "Q4_K": 92, "Q5_K": 4, "Q6_K": 1}),
        ("gemma-2b", "q4_k", {"F32": 37, "Q4_K": 108, "Q6_K": 19}),
        ("llama-3.2-1b", "q8_0", {"F32": 34, "Q8_0": 113}),
    ],
)
def test_the_types_are_those_that_the_quantiser_chooses(name: str, quant: str, published: dict[str, int]) -> None:
    assert Counter(tensor.type for tensor in tensors(NETWORKS[name], QUANTS[quant])) == published


@pytest.mark.parametrize(
    ("name", "quant", "gib"),
    [
        # tools/llama-bench/README.md in llama.cpp
        ("llama-2-7b", "q4_0", 3.56),
        ("llama-2-13b", "q4_0", 6.86),
        # github.com/ggml-org/llama.cpp/pull/3586, comment of 2023-11-14
        ("zephyr-3b", "f16", 5.21),
        ("zephyr-3b", "q8_0", 2.77),
    ],
)
def test_the_weights_take_as_many_bytes_as_the_real_ones(name: str, quant: str, gib: float) -> None:
    assert size_bytes(NETWORKS[name], QUANTS[quant]) / GIB == pytest.approx(gib, abs=0.006)


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_rows_are_whole_blocks_and_names_are_there_once(name: str, quant: str) -> None:
    from melt.makers.gguf.blocks import LAYOUTS  # noqa: PLC0415

    made = list(tensors(NETWORKS[name], QUANTS[quant]))
    assert len({tensor.name for tensor in made}) == len(made)
    assert [tensor for tensor in made if tensor.shape[-1] % LAYOUTS[tensor.type].elements] == []


def test_llama_3_slows_only_the_slow_rotations() -> None:
    factors = rope_factors(NETWORKS["llama-3.2-1b"])
    assert len(factors) == 32
    assert factors == sorted(factors)
    assert (factors[0], factors[14], factors[18], factors[-1]) == (1.0, 1.0, 32.0, 32.0)
    # what llama.cpp's converter computes for these three, in float32
    assert factors[15:18] == pytest.approx([1.6513293, 3.2922623, 9.6667290], rel=1e-6)
