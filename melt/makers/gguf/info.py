"""What a GGUF file holds, without running it. The file is not trusted, and its weights are read only for the hash."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.makers.gguf.container import MAGIC, Damaged, Header, Listing, read_header
from melt.makers.gguf.cost import Unknown, kv_bytes_per_token, weights_per_token
from melt.records import Strict

if TYPE_CHECKING:
    from melt.makers.gguf.container import Entry

TEXT_MAX = 500

NOT_PARAMETERS = ("rope_freqs.", "rope_factors_long.", "rope_factors_short.")
"""Tensors that hold constants of the architecture, whatever the layer: nothing in them was learnt."""


class TypeShare(Strict):
    """The part of a file that has one tensor type."""

    tensors: int
    parameters: int
    bytes: int


class GgufInfo(Strict):
    """What `melt model info` tells of one GGUF file. A number that the file does not state is null."""

    path: Path
    sha256: str
    size_bytes: int
    version: int
    """Of the format."""
    architecture: str
    name: str
    description: str
    """The model's own words, cut short and without control characters."""
    synthetic: bool
    """Made by melt with random weights: no accuracy, and an energy that is compared only with its like."""
    maker: str | None
    """The name that `melt model make` was given."""
    seed: int | None
    types: Mapping[str, TypeShare]
    """The quantisation mix, the type with the most bytes first."""
    parameters: int
    weight_bytes: int
    layers: int | None
    heads: int | None
    """Of a layer; of the largest where they differ."""
    kv_heads: int | None
    context_length: int | None
    """How many tokens the model was trained for."""
    vocabulary: int | None
    weight_bytes_per_token: int | None
    """Weights that are read to generate one token: of an embedding that is not the output too, one row."""
    weight_bytes_per_token_reason: str | None
    weight_count_per_token: int | None
    """How many weights those are, a multiply-add each."""
    kv_bytes_per_token: int | None
    """What one token takes in the cache of keys and values when both are float16."""
    kv_bytes_per_token_reason: str | None


def need_gguf() -> None:
    """Raise UsageError when the optional package gguf is absent: called before anything imports it."""
    try:
        import gguf  # noqa: F401, PLC0415 - an optional extra, so not at the top
    except ImportError as error:
        msg = "making or reading a language model needs the gguf package: pip install 'melt[llm]'"
        raise UsageError(msg) from error


def is_gguf(path: Path) -> bool:
    """Whether a file is to be read as GGUF: it begins so, or at least is named so."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(MAGIC)) == MAGIC
    except OSError:
        begins = False
    return begins or path.suffix == ".gguf"


def info(path: Path) -> GgufInfo:
    """Describe the GGUF file at `path`; UsageError when it is missing, cut short or not GGUF."""
    need_gguf()
    try:
        if not path.exists():
            raise UsageError(f"model {path}: no such file; make one with 'melt model make' or correct the path")
        if not path.is_file():
            raise UsageError(f"model {path}: not a regular file; name the .gguf file itself")
        with path.open("rb") as file:
            header = read_header(file, path.stat().st_size)
            sizes = _sizes(header)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except Damaged as damage:
        what = _clean(str(damage))  # it may quote a name from the file
        raise UsageError(f"model {path}: not a GGUF model, or damaged: {what}; download or make it again") from None
    except OSError as error:
        raise UsageError(f"model {path}: cannot be read ({error.strerror}); check its permissions") from error
    return _described(path, sha256, header, sizes)


def _described(path: Path, sha256: str, header: Header, sizes: Mapping[str, tuple[str, int]]) -> GgufInfo:
    shares: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for entry in header.entries:
        kind, size = sizes[entry.name]
        share = shares[kind]
        share[0] += 1
        share[1] += _parameters(entry)
        share[2] += size
    by_bytes = sorted(shares.items(), key=lambda item: (-item[1][2], item[0]))
    architecture = header.values.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise UsageError(f"model {path}: not a model: it does not state its architecture; name another file")
    values = {key.removeprefix(f"{architecture}."): value for key, value in header.values.items()}
    per_token, count, per_token_reason = None, None, None
    kv, kv_reason = None, None
    try:
        per_token = weights_per_token(values, {e.name: (e, sizes[e.name][1]) for e in header.entries})
        count = weights_per_token(values, {e.name: (e, e.elements) for e in header.entries})
    except Unknown as unknown:
        per_token_reason = str(unknown)
    try:
        kv = kv_bytes_per_token(values)
    except Unknown as unknown:
        kv_reason = str(unknown)
    label = values.get("melt.seed")
    synthetic = values.get("melt.synthetic") is True
    return GgufInfo(
        path=path,
        sha256=sha256,
        size_bytes=header.size_bytes,
        version=header.version,
        architecture=_clean(architecture),
        name=_text(values, "general.name"),
        description=_text(values, "general.description"),
        synthetic=synthetic,
        maker=_text(values, "melt.maker") or None,
        seed=label if synthetic and isinstance(label, int) and not isinstance(label, bool) else None,
        types={kind: TypeShare(tensors=n, parameters=p, bytes=b) for kind, (n, p, b) in by_bytes},
        parameters=sum(share[1] for share in shares.values()),
        weight_bytes=sum(share[2] for share in shares.values()),
        layers=_number(values, "block_count"),
        heads=_number(values, "attention.head_count"),
        kv_heads=_number(values, "attention.head_count_kv") or _number(values, "attention.head_count"),
        context_length=_number(values, "context_length"),
        vocabulary=_vocabulary(values),
        weight_bytes_per_token=per_token,
        weight_bytes_per_token_reason=per_token_reason,
        weight_count_per_token=count,
        kv_bytes_per_token=kv,
        kv_bytes_per_token_reason=kv_reason,
    )


def _sizes(header: Header) -> Mapping[str, tuple[str, int]]:
    """Each tensor's type and bytes; Damaged when a type is unknown, or the tensors do not lie apart in the file."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType  # noqa: PLC0415 - an optional extra

    sizes = {}
    for entry in header.entries:
        try:
            kind = GGMLQuantizationType(entry.type_number)
        except ValueError:
            raise Damaged(f"the tensor '{entry.name}' has the type {entry.type_number}, which is unknown") from None
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if entry.shape[0] % block:
            raise Damaged(f"the tensor '{entry.name}' has rows of {entry.shape[0]}, not whole blocks of {kind.name}")
        sizes[entry.name] = (kind.name, entry.elements // block * block_bytes)
    end = 0
    for entry in sorted(header.entries, key=lambda entry: entry.offset):
        if entry.offset < end:
            raise Damaged(f"the tensor '{entry.name}' begins inside another")
        end = entry.offset + sizes[entry.name][1]
        last = header.data_start + end
        if last > header.size_bytes:
            raise Damaged(f"cut short: the tensor '{entry.name}' ends at byte {last} of {header.size_bytes}")
    return sizes


def _parameters(entry: Entry) -> int:
    last = entry.name.split(".", 2)[2] if entry.name.startswith("blk.") and entry.name.count(".") > 1 else entry.name
    return 0 if last.startswith(NOT_PARAMETERS) else entry.elements


def _number(values: Mapping[str, object], key: str) -> int | None:
    """A whole number, or the largest of those listed for each layer."""
    value = values.get(key)
    if isinstance(value, Listing):
        value = max(value.numbers, default=None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _vocabulary(values: Mapping[str, object]) -> int | None:
    listed = values.get("tokenizer.ggml.tokens")
    return listed.count if isinstance(listed, Listing) else _number(values, "vocab_size")


def _text(values: Mapping[str, object], key: str) -> str:
    value = values.get(key)
    return _clean(value) if isinstance(value, str) else ""


def _clean(text: str) -> str:
    """A stranger's words, fit for a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:TEXT_MAX]).strip()
