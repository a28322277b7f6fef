"""The published networks as data: every dimension that decides speed and memory, from their configuration files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from melt.makers.gguf import vocabulary as of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.makers.gguf.vocabulary import Vocabulary

Architecture = Literal["llama", "gemma", "qwen2", "stablelm"]
"""llama.cpp's name of the graph; Mistral and TinyLlama are of the first."""


@dataclass(frozen=True)
class Network:
    """A decoder-only transformer, in the words of its field."""

    name: str
    summary: str
    architecture: Architecture
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    ffn: int
    """Width inside the feed-forward network, which is gated everywhere."""
    context: int
    """How many tokens the real model was trained for."""
    vocabulary: Vocabulary
    epsilon: float = 1e-5
    rope_base: float = 10_000.0
    rope_width: int | None = None
    """How much of a head is rotated, when not all of it."""
    rope_factor: int | None = None
    """By how much Llama 3 slows its slow rotations, to reach past the 8192 tokens it was first trained for."""
    tied: bool = False
    """The output is the embedding: one tensor, read as a whole for each token."""
    qkv_bias: bool = False
    norm_bias: bool = False
    """Layer norms with bias, where the others have RMS norms."""


_ALL = (
    Network(
        "llm-toy", "a toy of Llama's form, 5.2 M parameters, for tests", "llama",
        layers=4, width=256, heads=4, kv_heads=2, head_width=64, ffn=768, context=2048, vocabulary=of.tinyllama(4096),
    ),
    Network(
        "tinyllama-1.1b", "TinyLlama 1.1B", "llama",
        layers=22, width=2048, heads=32, kv_heads=4, head_width=64, ffn=5632, context=2048, vocabulary=of.tinyllama(),
    ),
    Network(
        "zephyr-3b", "StableLM Zephyr 3B", "stablelm",
        layers=32, width=2560, heads=32, kv_heads=32, head_width=80, ffn=6912, context=4096, vocabulary=of.neox(),
        rope_width=20, norm_bias=True,
    ),
    Network(
        "gemma-2b", "Gemma 2B, the first version", "gemma",
        layers=18, width=2048, heads=8, kv_heads=1, head_width=256, ffn=16_384, context=8192, vocabulary=of.gemma(),
        epsilon=1e-6, tied=True,
    ),
    Network(
        "gemma-7b", "Gemma 7B, the first version", "gemma",
        layers=28, width=3072, heads=16, kv_heads=16, head_width=256, ffn=24_576, context=8192, vocabulary=of.gemma(),
        epsilon=1e-6, tied=True,
    ),
    Network(
        "mistral-7b", "Mistral 7B v0.1", "llama",
        layers=32, width=4096, heads=32, kv_heads=8, head_width=128, ffn=14_336, context=32_768,
        vocabulary=of.llama2(),
    ),
    Network(
        "llama-2-7b", "Llama 2 7B", "llama",
        layers=32, width=4096, heads=32, kv_heads=32, head_width=128, ffn=11_008, context=4096,
        vocabulary=of.llama2(),
    ),
    Network(
        "llama-2-13b", "Llama 2 13B", "llama",
        layers=40, width=5120, heads=40, kv_heads=40, head_width=128, ffn=13_824, context=4096,
        vocabulary=of.llama2(),
    ),
    Network(
        "llama-3.2-1b", "Llama 3.2 1B", "llama",
        layers=16, width=2048, heads=32, kv_heads=8, head_width=64, ffn=8192, context=131_072, vocabulary=of.llama3(),
        rope_base=500_000.0, rope_factor=32, tied=True,
    ),
    Network(
        "llama-3.2-3b", "Llama 3.2 3B", "llama",
        layers=28, width=3072, heads=24, kv_heads=8, head_width=128, ffn=8192, context=131_072, vocabulary=of.llama3(),
        rope_base=500_000.0, rope_factor=32, tied=True,
    ),
    Network(
        "qwen2.5-0.5b", "Qwen2.5 0.5B", "qwen2",
        layers=24, width=896, heads=14, kv_heads=2, head_width=64, ffn=4864, context=32_768, vocabulary=of.qwen2(),
        epsilon=1e-6, rope_base=1_000_000.0, tied=True, qkv_bias=True,
    ),
    Network(
        "qwen2.5-1.5b", "Qwen2.5 1.5B", "qwen2",
        layers=28, width=1536, heads=12, kv_heads=2, head_width=128, ffn=8960, context=32_768, vocabulary=of.qwen2(),
        epsilon=1e-6, rope_base=1_000_000.0, tied=True, qkv_bias=True,
    ),
)  # fmt: skip

NETWORKS: Mapping[str, Network] = {network.name: network for network in _ALL}
