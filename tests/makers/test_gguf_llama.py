"""llama.cpp itself on made models: it loads and runs each, chooses the same types, and gives text back unchanged."""

from __future__ import annotations

import contextlib
import ctypes
import math
import random
from typing import TYPE_CHECKING, Any

import gguf
import pytest
from host_llama import llama_cpp
from narrow_networks import narrow

from melt.makers.gguf import NETWORKS, QUANTS, make_network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peer

FAMILIES = ("llm-toy", "zephyr-3b", "gemma-2b", "mistral-7b", "llama-3.2-1b", "qwen2.5-0.5b")
"""One for each architecture and vocabulary."""


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """llama.cpp's log is kept, and must not end before the library does."""
    said: list[bytes] = []
    callback = llama_cpp().llama_log_callback(lambda _level, text, _data: said.append(text))
    llama_cpp().llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp().llama_backend_init()
    yield
    silent = llama_cpp().llama_log_callback(0)
    llama_cpp().llama_log_set(silent, ctypes.c_void_p(0))


@contextlib.contextmanager
def loaded(path: Path, *, vocabulary_only: bool = False) -> Iterator[Any]:
    parameters = llama_cpp().llama_model_default_params()
    parameters.vocab_only = vocabulary_only
    model = llama_cpp().llama_model_load_from_file(str(path).encode(), parameters)
    assert model, f"llama.cpp does not load {path}"
    try:
        yield model
    finally:
        llama_cpp().llama_model_free(model)


def encoded(vocabulary: Any, text: bytes, *, special: bool = False) -> list[int]:
    found = (llama_cpp().llama_token * (len(text) + 8))()
    count = llama_cpp().llama_tokenize(vocabulary, text, len(text), found, len(found), False, special)
    assert count >= 0
    return list(found[:count])


def pieces(vocabulary: Any, tokens: list[int]) -> bytes:
    """The bytes of each token, as they stream."""
    buffer, data = ctypes.create_string_buffer(256), b""
    for token in tokens:
        length = llama_cpp().llama_token_to_piece(vocabulary, token, buffer, len(buffer), 0, True)
        assert length >= 0
        data += buffer.raw[:length]
    return data


def decoded(vocabulary: Any, tokens: list[int]) -> bytes:
    """The bytes of all tokens together, where llama.cpp may "clean up"."""
    buffer = ctypes.create_string_buffer(len(tokens) * 16 + 64)
    given = (llama_cpp().llama_token * len(tokens))(*tokens)
    count = llama_cpp().llama_detokenize(vocabulary, given, len(tokens), buffer, len(buffer), False, True)
    assert count >= 0
    return buffer.raw[:count]


def texts() -> list[str]:
    chance = random.Random(1)
    ranges = ((1, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000))
    scrambled = (
        "".join(chr(chance.randrange(*chance.choice(ranges))) for _ in range(chance.randrange(1, 60)))
        for _ in range(100)
    )
    return [
        "Hello there, world! How 's it 'going' ? no , yes .  two  spaces   three\n\n\ttab ' s 't 'll",
        " leading and trailing ",
        "   ",
        "\n",
        "x" * 5000,
        "1234567890",
        "naïve café — 中文 🙂👍🏽 e\u0301 \u200d",
        "w81 w12 Ġw300 <0x0A> <s> </s> <|im_end|>x<end_of_turn> <|eot_id|> <unk>",
        "▀▄█ blocks, near the letter that stands for a space",
        "".join(map(chr, range(1, 0x250))),
        *(text.replace("▁", "_") for text in scrambled),
    ]


@pytest.fixture(scope="module", params=FAMILIES)
def vocabulary_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "m.gguf"
    make_network(narrow(NETWORKS[request.param], layers=1), path, QUANTS["q4_0"], 1)
    return path


def test_text_comes_back_unchanged_one_token_for_each_byte(vocabulary_file: Path) -> None:
    with loaded(vocabulary_file, vocabulary_only=True) as model:
        vocabulary = llama_cpp().llama_model_get_vocab(model)
        for text in texts():
            data = text.encode()
            tokens = encoded(vocabulary, data)
            assert len(tokens) == len(data), text
            assert pieces(vocabulary, tokens) == data
            assert decoded(vocabulary, tokens) == data
            assert pieces(vocabulary, encoded(vocabulary, data, special=True)) == data


def test_bytes_that_are_no_text_come_back_where_llama_cpp_lets_them(tmp_path: Path) -> None:
    path = make_network(narrow(NETWORKS["llm-toy"], layers=1), tmp_path / "m.gguf", QUANTS["q4_0"], 1).path
    with loaded(path, vocabulary_only=True) as model:
        vocabulary = llama_cpp().llama_model_get_vocab(model)
        for data in (bytes(range(1, 256)), b"\xff\xfe\x80abc", b"\xe2\x96", b"ab\xc3", b"\0x\0y"):
            tokens = encoded(vocabulary, data)
            assert pieces(vocabulary, tokens) == data


def test_control_tokens_are_known(vocabulary_file: Path) -> None:
    with loaded(vocabulary_file, vocabulary_only=True) as model:
        vocabulary = llama_cpp().llama_model_get_vocab(model)
        real = narrow(NETWORKS[_maker(vocabulary_file)]).vocabulary
        assert llama_cpp().llama_vocab_eos(vocabulary) == real.control[real.eos]
        assert llama_cpp().llama_vocab_get_add_bos(vocabulary) is real.add_bos
        assert llama_cpp().llama_vocab_is_eog(vocabulary, real.control[real.eot or real.eos])
        for text, number in real.control.items():
            assert encoded(vocabulary, text.encode(), special=True) == [number]


def _maker(path: Path) -> str:
    return str(gguf.GGUFReader(path).fields["melt.maker"].contents())


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_llama_cpp_runs_it_and_its_logits_are_of_a_sensible_size(tmp_path: Path, name: str, quant: str) -> None:
    network = narrow(NETWORKS[name])
    told = make_network(network, tmp_path / "m.gguf", QUANTS[quant], 1)
    with loaded(told.path) as model:
        assert llama_cpp().llama_model_size(model) == told.weight_bytes
        parameters = llama_cpp().llama_context_default_params()
        parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch = 64, 1, 1
        context = llama_cpp().llama_init_from_model(model, parameters)
        try:
            tokens = (llama_cpp().llama_token * 9)(*range(300, 309))
            for _ in range(3):
                assert llama_cpp().llama_decode(context, llama_cpp().llama_batch_get_one(tokens, len(tokens))) == 0
                logits = llama_cpp().llama_get_logits_ith(context, -1)[: network.vocabulary.size]
                assert all(map(math.isfinite, logits))
                assert 0.5 < math.sqrt(math.fsum(x * x for x in logits) / len(logits)) < 2
                best = max(range(len(logits)), key=logits.__getitem__)
                tokens = (llama_cpp().llama_token * 1)(best)
        finally:
            llama_cpp().llama_free(context)


@pytest.mark.parametrize("quant", ["q4_0", "q3_k", "q4_k"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_types_are_those_that_llama_cpps_quantiser_chooses(tmp_path: Path, name: str, quant: str) -> None:
    network = narrow(NETWORKS[name])
    plain = make_network(network, tmp_path / "f16.gguf", QUANTS["f16"], 1).path
    parameters = llama_cpp().llama_model_quantize_default_params()
    parameters.nthread, parameters.ftype = 1, QUANTS[quant].file_type
    out = tmp_path / "quantised.gguf"
    code = llama_cpp().llama_model_quantize(str(plain).encode(), str(out).encode(), ctypes.byref(parameters))
    assert code == 0
    ours = make_network(network, tmp_path / "ours.gguf", QUANTS[quant], 1).path
    assert _types(ours) == _types(out)


def _types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
