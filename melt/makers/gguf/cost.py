"""What one generated token costs in memory traffic and in memory, from a GGUF header alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.makers.gguf.container import Listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.makers.gguf.container import Entry

ROW_TABLES = ("token_embd.weight", "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight")
"""Tensors of which a token reads one row."""

F16_BYTES = 2


class Unknown(Exception):
    """A cost cannot be told; the text says why."""


def weights_per_token(values: Mapping[str, object], sized: Mapping[str, tuple[Entry, int]]) -> int:
    """How much of the weights generating one token reads, at batch 1, in whatever `sized` has them in; raises Unknown.

    Everything but the tables of which one row is read. An embedding that is also the output is read whole, once. Of a
    mixture of experts, the share that is used. Neither the cache nor activations are in it.
    """
    if values.get("attention.causal") is False:
        raise Unknown("the model does not generate text")
    parts = values.get("split.count")
    if isinstance(parts, int) and parts > 1:
        raise Unknown(f"the file is one of {parts} parts of the model")
    if "token_embd.weight" not in sized:
        raise Unknown("the file has no token embedding: it is not a whole language model")
    tied = "output.weight" not in sized
    total = 0
    for name, (entry, size) in sized.items():
        if name in ROW_TABLES and not (tied and name == "token_embd.weight"):
            total += size // (entry.elements // entry.shape[0])
        elif "_exps." in name:
            total += size * _count(values, "expert_used_count") // _count(values, "expert_count")
        else:
            total += size
    return total


def kv_bytes_per_token(values: Mapping[str, object]) -> int:
    """Bytes that one token takes in a float16 cache of keys and values, over all layers; raises Unknown."""
    if any(key.startswith(("ssm.", "wkv.")) for key in values):
        raise Unknown("some layers keep a state instead of keys and values")
    if "attention.kv_lora_rank" in values:
        raise Unknown("keys and values are kept compressed")
    layers = _count(values, "block_count")
    heads = _each_layer(values, "attention.head_count", layers)
    kv_heads = _each_layer(values, "attention.head_count_kv", layers) if "attention.head_count_kv" in values else heads
    width = 0
    for part in ("attention.key_length", "attention.value_length"):
        if part in values:
            width += _count(values, part)
        elif max(heads) > 0:
            width += _count(values, "embedding_length") // max(heads)
    return F16_BYTES * width * sum(kv_heads) * (layers // len(kv_heads))


def _count(values: Mapping[str, object], key: str) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise Unknown(f"the file does not state its {key}")
    return value


def _each_layer(values: Mapping[str, object], key: str, layers: int) -> tuple[int, ...]:
    """One number for all layers, or one for each."""
    value = values.get(key)
    if not isinstance(value, Listing):
        return (_count(values, key),)
    numbers = tuple(int(number) for number in value.numbers if isinstance(number, int) and number >= 0)
    if not numbers or len(numbers) != layers:
        raise Unknown(f"the file states its {key} for {value.count} layers, not for {layers}")
    return numbers
