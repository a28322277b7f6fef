"""Every network in small: its own structure, layers and kind of vocabulary, but narrow: made in no time."""

from __future__ import annotations

import dataclasses

from melt.makers.gguf import Network
from melt.makers.gguf import vocabulary as of

_VOCABULARIES = {"llama": of.llama2, "gemma": of.gemma, "stablelm": of.neox, "qwen2": of.qwen2}


def narrow(network: Network, layers: int | None = None) -> Network:
    """A file of a few megabytes that llama.cpp treats as it does the real one."""
    llama3 = network.rope_factor is not None
    vocabulary = (of.llama3 if llama3 else _VOCABULARIES[network.architecture])(1024)
    return dataclasses.replace(
        network,
        layers=layers or network.layers,
        width=network.width if network.width % 256 else 256,
        heads=4,
        kv_heads=max(1, 4 * network.kv_heads // network.heads),
        head_width=64 if network.width % 256 == 0 else network.width // 4,
        ffn=512,
        vocabulary=vocabulary,
        rope_width=network.rope_width and 16,
    )
