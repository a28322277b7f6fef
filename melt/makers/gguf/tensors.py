"""The tensors of a network, and the type that each has in a quantised file."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from melt.makers.gguf.networks import Network

TypeName = Literal["F32", "F16", "Q8_0", "Q4_0", "Q5_0", "Q5_1", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]

K_BLOCK = 256
"""Weights in a block of the k-quants; a row must hold a whole number of them."""

_FIT: Mapping[TypeName, TypeName] = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What llama.cpp takes for a row that is not whole blocks of a k-quant: Qwen2.5-0.5B has rows of 896."""


@dataclass(frozen=True)
class Quant:
    """A way to quantise a whole model; `file_type` is llama.cpp's number for it."""

    name: str
    base: TypeName
    file_type: int
    summary: str


QUANTS: Mapping[str, Quant] = {
    quant.name: quant
    for quant in (
        Quant("f16", "F16", 1, "every matrix F16"),
        Quant("q8_0", "Q8_0", 7, "every matrix Q8_0"),
        Quant("q4_0", "Q4_0", 2, "Q4_0, output Q6_K"),
        Quant("q3_k", "Q3_K", 12, "Q3_K_M: Q3_K; attn_output, attn_v and ffn_down Q4_K or Q5_K, output Q6_K"),
        Quant("q4_k", "Q4_K", 15, "Q4_K_M: Q4_K; half of attn_v and ffn_down Q6_K, output Q6_K"),
    )
}
"""The types that llama.cpp's quantiser chooses without an importance matrix. "Output" is the embedding where they
are tied; norms and biases are F32 everywhere; the k-quants are the mixes called _M."""


@dataclass(frozen=True)
class Tensor:
    """One tensor: `shape` has the rows first, the length of a row last, as numpy would."""

    name: str
    shape: tuple[int, ...]
    type: TypeName

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


def tensors(network: Network, quant: Quant) -> Iterator[Tensor]:
    """Every tensor of the network, in the order of the file, under llama.cpp's names."""
    n = network
    q_width, kv_width = n.heads * n.head_width, n.kv_heads * n.head_width
    size = n.vocabulary.size
    yield _matrix(n, quant, "token_embd", (size, n.width))
    if n.rope_factor is not None:
        yield Tensor("rope_freqs.weight", (n.head_width // 2,), "F32")
    for layer in range(n.layers):
        block = f"blk.{layer}."
        yield from _norm(n, f"{block}attn_norm")
        for part, rows in (("attn_q", q_width), ("attn_k", kv_width), ("attn_v", kv_width)):
            yield _matrix(n, quant, f"{block}{part}", (rows, n.width), layer)
            if n.qkv_bias:
                yield Tensor(f"{block}{part}.bias", (rows,), "F32")
        yield _matrix(n, quant, f"{block}attn_output", (n.width, q_width), layer)
        yield from _norm(n, f"{block}ffn_norm")
        for part in ("ffn_gate", "ffn_up"):
            yield _matrix(n, quant, f"{block}{part}", (n.ffn, n.width), layer)
        yield _matrix(n, quant, f"{block}ffn_down", (n.width, n.ffn), layer)
    yield from _norm(n, "output_norm")
    if not n.tied:
        yield _matrix(n, quant, "output", (size, n.width))


def _norm(network: Network, name: str) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (network.width,), "F32")
    if network.norm_bias:
        yield Tensor(f"{name}.bias", (network.width,), "F32")


def _matrix(network: Network, quant: Quant, name: str, shape: tuple[int, int], layer: int = 0) -> Tensor:
    part = name.rpartition(".")[2]
    wanted = _wanted(network, quant, part, layer)
    fits = wanted not in _FIT or shape[1] % K_BLOCK == 0
    return Tensor(f"{name}.weight", shape, wanted if fits else _FIT[wanted])


def _wanted(network: Network, quant: Quant, part: str, layer: int) -> TypeName:
    """The rules of llama.cpp for these architectures, before rows are looked at."""
    layers = network.layers
    if part == "output" or (part == "token_embd" and network.tied):
        return quant.base if quant.base in ("F16", "Q8_0") else "Q6_K"
    if quant.name == "q3_k":
        if part == "attn_v":
            return "Q5_K" if layer < 2 else "Q4_K"  # noqa: PLR2004 - the first two layers
        if part == "ffn_down":
            return "Q5_K" if layer < layers // 16 else "Q4_K"
        if part == "attn_output":
            return "Q4_K"
    if quant.name == "q4_k" and part in ("attn_v", "ffn_down"):
        eighth = layers // 8
        more = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2  # noqa: PLR2004 - each third
        return "Q6_K" if more else "Q4_K"
    return quant.base
