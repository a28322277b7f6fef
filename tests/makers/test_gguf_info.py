"""`info` describes any GGUF file, and answers everything else with one sentence, quickly and in little memory."""

from __future__ import annotations

import hashlib
import random
import struct
import tracemalloc
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from melt.errors import UsageError
from melt.makers.gguf import TypeShare, info, is_gguf, make

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Shape = tuple[int, ...]


def written(
    path: Path,
    values: Mapping[str, object] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    architecture: str = "llama",
) -> Path:
    """A small file by the package gguf: F32 tensors of `shapes`, rows first, and the keys that matter."""
    writer = gguf.GGUFWriter(path, architecture)
    basic = {"block_count": 2, "attention.head_count": 4, "attention.head_count_kv": 2, "embedding_length": 64}
    for key, value in {**{f"{architecture}.{k}": v for k, v in basic.items()}, **(values or {})}.items():
        if value is None:
            continue
        kind = gguf.GGUFValueType.get_type(value)
        writer.add_key_value(key, value, gguf.GGUFValueType.UINT32 if kind is gguf.GGUFValueType.INT32 else kind)
    for name, shape in (shapes or {"token_embd.weight": (100, 64), "output.weight": (100, 64)}).items():
        writer.add_tensor(name, np.zeros(shape, "<f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "toy.gguf"
    make("llm-toy", path, quant="q4_k")
    return path


def test_a_file_of_melts_own_is_told_in_full(toy: Path) -> None:
    told = info(toy)
    assert told.sha256 == hashlib.sha256(toy.read_bytes()).hexdigest()
    assert told.size_bytes == toy.stat().st_size
    assert (told.version, told.architecture, told.synthetic, told.seed) == (3, "llama", True, 1)
    assert (told.layers, told.heads, told.kv_heads) == (4, 4, 2)
    assert (told.context_length, told.vocabulary) == (2048, 4096)
    assert told.types == {
        "Q4_K": TypeShare(tensors=25, parameters=3_735_552, bytes=3_735_552 // 256 * 144),
        "Q6_K": TypeShare(tensors=5, parameters=1_507_328, bytes=1_507_328 // 256 * 210),
        "F32": TypeShare(tensors=9, parameters=2304, bytes=2304 * 4),
    }
    assert told.parameters == 5_245_184
    # all but the embedding (4096 rows of 256, Q4_K), of which one row is read
    assert told.weight_bytes_per_token == told.weight_bytes - 4095 * 144
    assert told.kv_bytes_per_token == 4 * 2 * (64 + 64) * 2
    assert type(told).model_validate_json(told.model_dump_json()) == told


def test_a_strangers_file_is_not_synthetic_and_states_what_it_states(tmp_path: Path) -> None:
    told = info(written(tmp_path / "m.gguf", {"general.name": "a\tb\x1b[31m", "melt.seed": 3}))
    assert not told.synthetic
    assert (told.maker, told.seed) == (None, None)
    assert told.name == "a b [31m"
    assert (told.context_length, told.vocabulary) == (None, None)
    assert told.kv_bytes_per_token == 2 * 2 * (16 + 16) * 2
    assert told.weight_bytes_per_token == 100 * 64 * 4 + 64 * 4


def test_a_tied_output_is_counted_once_and_whole(tmp_path: Path) -> None:
    told = info(written(tmp_path / "m.gguf", shapes={"token_embd.weight": (100, 64), "blk.0.x.weight": (64, 64)}))
    assert told.weight_bytes_per_token == told.weight_bytes == (100 * 64 + 64 * 64) * 4


def test_of_a_mixture_of_experts_the_share_that_is_used_counts(tmp_path: Path) -> None:
    shapes = {"token_embd.weight": (10, 64), "output.weight": (10, 64), "blk.0.ffn_up_exps.weight": (8, 32, 64)}
    keys = {"llama.expert_count": 8, "llama.expert_used_count": 2}
    told = info(written(tmp_path / "m.gguf", keys, shapes))
    assert told.weight_bytes_per_token == (64 + 640 + 2 * 32 * 64) * 4
    lacking = info(written(tmp_path / "n.gguf", {"llama.expert_count": 8}, shapes))
    assert lacking.weight_bytes_per_token is None
    assert "expert_used_count" in str(lacking.weight_bytes_per_token_reason)


def test_heads_that_differ_by_layer_are_summed(tmp_path: Path) -> None:
    told = info(written(tmp_path / "m.gguf", {"llama.attention.head_count_kv": [4, 1]}))
    assert (told.heads, told.kv_heads) == (4, 4)
    assert told.kv_bytes_per_token == (4 + 1) * (16 + 16) * 2


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"llama.block_count": None}, "block_count"),
        ({"llama.attention.head_count": 0}, "head_count"),
        ({"llama.attention.head_count_kv": [1, 2, 3]}, "for 3 layers, not for 2"),
        ({"llama.ssm.state_size": 16}, "state"),
        ({"llama.attention.kv_lora_rank": 16}, "compressed"),
    ],
)
def test_a_cache_that_cannot_be_told_is_null_with_a_reason(
    tmp_path: Path, values: dict[str, object], says: str
) -> None:
    told = info(written(tmp_path / "m.gguf", values))
    assert told.kv_bytes_per_token is None
    assert says in str(told.kv_bytes_per_token_reason)


@pytest.mark.parametrize(
    ("values", "shapes", "says"),
    [
        ({"split.count": 4}, None, "one of 4 parts"),
        ({"llama.attention.causal": False}, None, "does not generate"),
        ({}, {"blk.0.x.weight": (4, 4)}, "no token embedding"),
    ],
)
def test_weights_per_token_that_cannot_be_told_are_null_with_a_reason(
    tmp_path: Path, values: dict[str, object], shapes: dict[str, Shape] | None, says: str
) -> None:
    told = info(written(tmp_path / "m.gguf", values, shapes))
    assert told.weight_bytes_per_token is None
    assert says in str(told.weight_bytes_per_token_reason)


# -------------------------------------------------------------------------------------------------- what is refused


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def header(tensors: int = 0, keys: int = 0, version: int = 3, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def tensor(name: bytes = b"t", dims: Shape = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


ARCHITECTURE = string(b"general.architecture") + struct.pack("<I", 8) + string(b"llama")
PADDING = bytes(4096)

HOSTILE = {
    "empty": (b"", "cut short"),
    "text": (b"# a README, not a model\n" * 10, "does not begin with 'GGUF'"),
    "zip": (b"PK\x03\x04" + PADDING, "does not begin with 'GGUF'"),
    "magic alone": (b"GGUF", "cut short"),
    "version 1": (header(version=1, rest=PADDING), "version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "more tensors than fit": (header(tensors=2**40, rest=PADDING), "claims 1099511627776 tensors"),
    "more keys than fit": (header(keys=2**63, rest=PADDING), "claims"),
    "a key of 2^60 bytes": (header(keys=1, rest=struct.pack("<Q", 2**60) + PADDING), "name of"),
    "a key that is not text": (header(keys=1, rest=string(b"\xff\xfe") + PADDING), "not UTF-8"),
    "a key twice": (header(keys=2, rest=ARCHITECTURE * 2 + PADDING), "twice"),
    "a text of 2^62 bytes": (
        header(keys=1, rest=string(b"k") + struct.pack("<IQ", 8, 2**62) + PADDING), "cut short in k",
    ),
    "an array of 2^61 numbers": (
        header(keys=1, rest=string(b"k") + struct.pack("<IIQ", 9, 10, 2**61) + PADDING), "claims",
    ),
    "an array of 2^40 texts": (
        header(keys=1, rest=string(b"k") + struct.pack("<IIQ", 9, 8, 2**40) + PADDING), "claims",
    ),
    "an array of arrays": (header(keys=1, rest=string(b"k") + struct.pack("<IIQ", 9, 9, 1) + PADDING), "unknown type"),
    "an unknown value": (header(keys=1, rest=string(b"k") + struct.pack("<I", 77) + PADDING), "unknown type 77"),
    "no architecture": (header(rest=PADDING), "does not state its architecture"),
    "dimensions": (header(1, 1, rest=ARCHITECTURE + tensor(dims=(1,) * 9) + PADDING), "9 dimensions"),
    "a shape of 0": (header(1, 1, rest=ARCHITECTURE + tensor(dims=(32, 0)) + PADDING), "impossible shape"),
    "a shape past 2^62": (header(1, 1, rest=ARCHITECTURE + tensor(dims=(2**60,) * 4) + PADDING), "impossible shape"),
    "an unknown tensor type": (header(1, 1, rest=ARCHITECTURE + tensor(kind=999) + PADDING), "type 999"),
    "half a block": (header(1, 1, rest=ARCHITECTURE + tensor(dims=(33,), kind=2) + PADDING), "not whole blocks"),
    "past the end": (header(1, 1, rest=ARCHITECTURE + tensor(dims=(2**30,)) + PADDING), "ends at byte"),
    "begins past the end": (header(1, 1, rest=ARCHITECTURE + tensor(offset=2**50) + PADDING), "ends at byte"),
    "crooked": (header(1, 1, rest=ARCHITECTURE + tensor(offset=7) + PADDING), "multiple of 32"),
    "overlapping": (
        header(2, 1, rest=ARCHITECTURE + tensor(b"a", (64,)) + tensor(b"b", (64,), offset=32) + PADDING), "inside",
    ),
    "two of a name": (header(2, 1, rest=ARCHITECTURE + tensor() + tensor(offset=128) + PADDING), "same name"),
    "alignment of 0": (
        header(0, 1, rest=string(b"general.alignment") + struct.pack("<II", 4, 0) + PADDING), "general.alignment",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_answered_with_one_sentence_that_names_it(tmp_path: Path, name: str) -> None:
    data, says = HOSTILE[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError) as caught:
            info(path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"model {path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert peak_bytes < 5_000_000


def test_names_from_the_file_are_fit_for_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header(1, 1, rest=ARCHITECTURE + tensor(b"a\n\x1b[31m" + b"b" * 60_000, kind=999) + PADDING))
    with pytest.raises(UsageError) as caught:
        info(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_a_file_is_known_by_its_first_bytes_or_by_its_name(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(toy.read_bytes()[:100])
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08GGUF")
    assert is_gguf(tmp_path / "blob")
    assert is_gguf(tmp_path / "absent.gguf")
    assert not is_gguf(tmp_path / "m.onnx")
    assert not is_gguf(tmp_path)
    assert not is_gguf(tmp_path / "absent")


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def scrambled(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 20)):
        changed[chance.randrange(400)] = chance.randrange(256)
    return bytes(changed)


def enlarged(data: bytes, chance: random.Random) -> bytes:
    """A count or a length somewhere becomes enormous."""
    place = chance.randrange(4, 400)
    return data[:place] + struct.pack("<Q", chance.getrandbits(64)) + data[place + 8 :]


@pytest.mark.parametrize("spoil", [cut, scrambled, enlarged])
def test_a_spoilt_file_is_described_or_refused_and_nothing_else(
    tmp_path: Path, spoil: Callable[[bytes, random.Random], bytes]
) -> None:
    data = written(tmp_path / "good.gguf", {"tokenizer.ggml.tokens": ["a", "b"], "general.name": "x"}).read_bytes()
    path, refused = tmp_path / "m.gguf", list[str]()
    for seed in range(300):
        path.write_bytes(spoil(data, random.Random(seed)))
        try:
            info(path)
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert [text for text in refused if not text.startswith(f"model {path}: ") or "\n" in text] == []


def test_a_truncated_model_is_refused(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(toy.read_bytes()[:-1000])
    with pytest.raises(UsageError, match=r"cut short: the tensor 'output.weight' ends at byte"):
        info(path)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        info(tmp_path / "absent.gguf")
    with pytest.raises(UsageError, match="not a regular file"):
        info(tmp_path)
