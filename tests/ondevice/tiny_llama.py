"""A real model of the llama architecture, small and random, written with the `gguf` package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

UNKNOWN, BEGIN, END = 0, 1, 2
FIRST_BYTE = 3
"""Token 3 stands for byte 0, and so on to 258; then come a space and some letters."""
LETTERS = "▁etaoinshrdlu"
"""The first stands for a space, as SentencePiece writes it."""
FIRST_LETTER = FIRST_BYTE + 256
N_VOCAB = FIRST_LETTER + len(LETTERS)


@dataclass(frozen=True)
class Shape:
    """Some 1.5 million parameters unless said otherwise."""

    layers: int = 2
    embedding: int = 128
    feed_forward: int = 512
    heads: int = 4
    kv_heads: int = 2
    context: int = 2048
    architecture: str = "llama"
    favours: int | None = None
    """The token that this model always says next."""
    letters: bool = False
    """Says nothing but its letters, which make one text only."""
    merges: bool = False
    """Has one token more, for a space and the letter t together."""
    ends: bool = False
    """Its vocabulary puts an end after every text."""


def write(path: Path, shape: Shape | None = None) -> Path:
    """The model of that shape, from one seed, with its weights in 32-bit floats."""
    shape = shape or Shape()
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_name("tiny")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.embedding // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(N_VOCAB + shape.merges)
    _add_vocabulary(writer, shape)
    _add_weights(writer, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter, shape: Shape) -> None:
    kinds = gguf.TokenType
    letters = [*LETTERS, *(["▁t"] if shape.merges else [])]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(
        [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % n for n in range(256)), *map(str.encode, letters)]
    )
    writer.add_token_scores([0.0] * FIRST_LETTER + [-float(n) for n in range(len(letters))])
    control = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
    writer.add_token_types([*control, *[kinds.BYTE] * 256, *[kinds.NORMAL] * len(letters)])
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(shape.ends)
    writer.add_add_space_prefix(False)


def _add_weights(writer: gguf.GGUFWriter, shape: Shape) -> None:
    rng = np.random.default_rng(11)
    width, inner = shape.embedding, shape.feed_forward
    kv = width // shape.heads * shape.kv_heads

    def add(name: str, *dims: int, times: float = 1) -> None:
        weights = rng.standard_normal(dims, dtype=np.float32) * np.float32(times / np.sqrt(dims[-1]))
        writer.add_tensor(name, weights)

    # larger than the layers' own words, or the model repeats one token for ever
    embedding = rng.standard_normal((N_VOCAB + shape.merges, width), dtype=np.float32)
    output = rng.standard_normal((N_VOCAB + shape.merges, width), dtype=np.float32)
    if shape.favours is not None:  # one coordinate outweighs all others whatever is said, and one token listens to it
        embedding[:, 0] = 1000
        output[:] = 0
        output[shape.favours, 0] = 1
    if shape.letters:  # one of them is above zero, all but always
        output[:FIRST_LETTER] = 0
    writer.add_tensor("token_embd.weight", embedding)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{norm}.weight", np.ones(width, np.float32))
        add(f"{block}.attn_q.weight", width, width)
        add(f"{block}.attn_k.weight", kv, width)
        add(f"{block}.attn_v.weight", kv, width)
        add(f"{block}.attn_output.weight", width, width, times=2)  # what was said matters
        add(f"{block}.ffn_gate.weight", inner, width)
        add(f"{block}.ffn_up.weight", inner, width)
        add(f"{block}.ffn_down.weight", width, inner)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    writer.add_tensor("output.weight", output)
