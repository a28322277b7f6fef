"""Language models without a download: GGUF files of published networks' shapes with seeded random weights.

Making and reading them needs the optional package gguf.
"""

from __future__ import annotations

from melt.makers.gguf.info import GgufInfo, TypeShare, info, is_gguf
from melt.makers.gguf.networks import NETWORKS, Network
from melt.makers.gguf.tensors import QUANTS, Quant
from melt.makers.gguf.writer import make, make_network

__all__ = ["NETWORKS", "QUANTS", "GgufInfo", "Network", "Quant", "TypeShare", "info", "is_gguf", "make", "make_network"]
