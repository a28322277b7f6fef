"""Writes a network as a GGUF file: the package gguf lays out the header, the weights follow in chunks."""

from __future__ import annotations

import math
import shutil
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import numpy as np

from melt.errors import UsageError, nearest
from melt.makers.gguf import blocks
from melt.makers.gguf.info import GgufInfo, info, need_gguf
from melt.makers.gguf.networks import NETWORKS
from melt.makers.gguf.tensors import QUANTS, tensors
from melt.makers.gguf.vocabulary import SPLITTER, merges, tokens
from melt.makers.graph import SEED_MAX
from melt.places import appearing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gguf import GGUFWriter

    from melt.makers.gguf.networks import Network
    from melt.makers.gguf.tensors import Quant, Tensor
    from melt.makers.gguf.vocabulary import Vocabulary

REVISION = 1
"""Raised whenever the same name, quantisation and seed would give other bytes; written into the file."""

ALIGNMENT = 32

HEADER_BYTES = 2**24
"""More than any of the headers takes: the largest vocabulary here is 256,000 tokens."""


def make(name: str, out: Path, *, quant: str = "q4_0", seed: int = 1) -> GgufInfo:
    """Write the network `name` to `out`, replacing a file that is there, whole or not at all.

    The same name, quantisation and seed give the same bytes on every machine. Memory stays under 500 MB whatever the
    size of the model. Raises UsageError for an unknown name or quantisation, a bad seed, a folder that is missing,
    full or cannot be written, and when the package gguf is not installed.
    """
    if name not in NETWORKS:
        raise UsageError(f"no language model is called '{name}': {nearest(name, NETWORKS)}")
    if quant not in QUANTS:
        raise UsageError(f"no quantisation is called '{quant}': {nearest(quant, QUANTS)}")
    return make_network(NETWORKS[name], out, QUANTS[quant], seed)


def make_network(network: Network, out: Path, quant: Quant, seed: int) -> GgufInfo:
    """As `make`, for a network that need not be one of those with a name."""
    need_gguf()
    if not 0 <= seed <= SEED_MAX:
        raise UsageError(f"seed {seed}: give a whole number from 0 to {SEED_MAX}")
    try:
        if not out.parent.is_dir():
            raise UsageError(f"model {out}: the folder {out.parent} does not exist; make it first")
        if out.is_dir():
            raise UsageError(f"model {out}: is a folder; name a file in it")
        needed = size_bytes(network, quant)
        free = shutil.disk_usage(out.parent).free
        if needed + HEADER_BYTES > free:
            raise UsageError(
                f"model {out}: takes {needed:,} bytes, and {out.parent} has {free:,} free;"
                " make room there or choose another folder"
            )
        with appearing(out) as part:
            _write(network, part, quant, seed)
    except OSError as error:
        raise UsageError(
            f"model {out}: cannot be written ({error.strerror});"
            " choose a folder that has space and that you may write to"
        ) from error
    return info(out)


def size_bytes(network: Network, quant: Quant) -> int:
    """How many bytes the weights take in the file; the header comes on top."""
    return sum(_padded(_bytes(tensor)) for tensor in tensors(network, quant))


def _bytes(tensor: Tensor) -> int:
    layout = blocks.LAYOUTS[tensor.type]
    return tensor.elements // layout.elements * layout.bytes


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write(network: Network, path: Path, quant: Quant, seed: int) -> None:
    import gguf  # noqa: PLC0415 - an optional extra, so not at the top

    writer = gguf.GGUFWriter(None, network.architecture)
    try:
        _describe(writer, network, quant, seed)
        _add_vocabulary(writer, network.vocabulary)
        for tensor in tensors(network, quant):
            number = gguf.GGMLQuantizationType[tensor.type]
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype("f4"), _bytes(tensor), raw_dtype=number)
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    with path.open("ab") as file:
        file.write(bytes(-file.tell() % ALIGNMENT))
        for tensor in tensors(network, quant):
            for chunk in _values(network, tensor, seed):
                file.write(chunk)
            file.write(bytes(-file.tell() % ALIGNMENT))


def _values(network: Network, tensor: Tensor, seed: int) -> Iterator[memoryview]:
    """The tensor's bytes in chunks."""
    stream = blocks.key("melt", REVISION, network.name, seed, tensor.name)
    if tensor.name == "rope_freqs.weight":
        yield _plain(np.array(rope_factors(network), "<f4"))
    elif tensor.name.endswith(".bias"):
        yield _plain(blocks.around(0.0, 0.1, tensor.elements, stream))
    elif tensor.type == "F32":
        yield _plain(blocks.around(1.0, 0.1, tensor.elements, stream))
    else:
        spread = 1 / math.sqrt(tensor.shape[-1])  # each product then has the size of what went in
        yield from map(_plain, blocks.weights(tensor.type, tensor.elements, spread, stream))


def _plain(values: blocks.Array) -> memoryview:
    return values.view("u1").data


def rope_factors(network: Network) -> list[float]:
    """By how much Llama 3 slows each pair of a head's rotations; in decimals, which come out alike everywhere.

    Those that turn at least 4 times within 8192 tokens stay, those that turn less than once are slowed by the whole
    factor, and in between it changes smoothly.
    """
    factor = Decimal(network.rope_factor or 1)
    factors = []
    with localcontext(prec=40):
        turn = 2 * Decimal("3.141592653589793238462643383279502884197")
        for pair in range(network.head_width // 2):
            turns = 8192 / (turn * Decimal(network.rope_base) ** (Decimal(2 * pair) / network.head_width))
            share = min(max((turns - 1) / 3, Decimal(0)), Decimal(1))
            factors.append(float(1 / ((1 - share) / factor + share)))
    return factors


def _describe(writer: GGUFWriter, network: Network, quant: Quant, seed: int) -> None:
    """The keys that llama.cpp wants, and the label."""
    n = network
    writer.add_type("model")
    writer.add_name(f"{n.name} (synthetic)")
    writer.add_description(f"Synthetic: {n.summary}. Random weights of seed {seed}; it has no accuracy.")
    writer.add_bool("melt.synthetic", True)
    writer.add_string("melt.maker", n.name)
    writer.add_uint64("melt.seed", seed)
    writer.add_uint32("melt.revision", REVISION)
    writer.add_file_type(quant.file_type)
    writer.add_quantization_version(2)
    writer.add_context_length(n.context)
    writer.add_embedding_length(n.width)
    writer.add_block_count(n.layers)
    writer.add_feed_forward_length(n.ffn)
    writer.add_head_count(n.heads)
    writer.add_head_count_kv(n.kv_heads)
    writer.add_key_length(n.head_width)
    writer.add_value_length(n.head_width)
    writer.add_rope_dimension_count(n.rope_width or n.head_width)
    writer.add_rope_freq_base(n.rope_base)
    if n.norm_bias:
        writer.add_layer_norm_eps(n.epsilon)
    else:
        writer.add_layer_norm_rms_eps(n.epsilon)
    if n.architecture == "stablelm":
        writer.add_parallel_residual(False)
    writer.add_vocab_size(n.vocabulary.size)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    made = tokens(vocabulary)
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_token_list(made.texts)
    writer.add_token_types(made.types)
    if vocabulary.kind == "gpt2":
        writer.add_tokenizer_pre(SPLITTER)
        writer.add_token_merges(merges(vocabulary, made.texts))
    else:
        writer.add_token_scores(made.scores)
        writer.add_add_space_prefix(False)  # else what is encoded comes back with a space before it
    number = vocabulary.control
    if vocabulary.bos is not None:
        writer.add_bos_token_id(number[vocabulary.bos])
    writer.add_eos_token_id(number[vocabulary.eos])
    if vocabulary.eot is not None:
        writer.add_eot_token_id(number[vocabulary.eot])
    if vocabulary.unknown is not None:
        writer.add_unk_token_id(number[vocabulary.unknown])
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(False)
    writer.add_chat_template(vocabulary.template)
