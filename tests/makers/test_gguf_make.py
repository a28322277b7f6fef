"""Making a language model: read back by the package gguf, labelled, whole or not at all, within its memory."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import gguf
import pytest
from narrow_networks import narrow

from melt.errors import UsageError
from melt.makers.gguf import NETWORKS, QUANTS, info, make, make_network
from melt.makers.gguf.tensors import tensors

if TYPE_CHECKING:
    from pathlib import Path

MEMORY_BYTES = 500_000_000


def read(path: Path) -> tuple[dict[str, Any], dict[str, gguf.ReaderTensor]]:
    reader = gguf.GGUFReader(path)
    return (
        {name: field.contents() for name, field in reader.fields.items()},
        {tensor.name: tensor for tensor in reader.tensors},
    )


def python(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize("quant", QUANTS)
def test_the_file_holds_the_tensors_that_were_promised(tmp_path: Path, quant: str) -> None:
    told = make("llm-toy", tmp_path / "m.gguf", quant=quant)
    _, found = read(told.path)
    promised = list(tensors(NETWORKS["llm-toy"], QUANTS[quant]))
    assert [(t.name, t.shape, t.type) for t in promised] == [
        (t.name, tuple(int(n) for n in reversed(t.shape)), t.tensor_type.name) for t in found.values()
    ]
    assert told.parameters == 5_245_184
    assert told.weight_bytes == sum(tensor.n_bytes for tensor in found.values())


def test_the_file_says_what_llama_cpp_must_know(tmp_path: Path) -> None:
    keys, _ = read(make("llm-toy", tmp_path / "m.gguf", quant="q4_k").path)
    expected = {
        "general.architecture": "llama", "general.file_type": 15, "general.quantization_version": 2,
        "llama.block_count": 4, "llama.context_length": 2048, "llama.embedding_length": 256,
        "llama.feed_forward_length": 768, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 64, "llama.attention.value_length": 64, "llama.rope.dimension_count": 64,
        "llama.rope.freq_base": 10_000.0, "llama.vocab_size": 4096,
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
    }  # fmt: skip
    assert {key: keys[key] for key in expected} == expected
    assert keys["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    assert len(keys["tokenizer.ggml.tokens"]) == len(keys["tokenizer.ggml.scores"]) == 4096
    assert "message" in keys["tokenizer.chat_template"]


@pytest.mark.parametrize(
    ("name", "expected", "there"),
    [
        ("zephyr-3b", {"stablelm.rope.dimension_count": 16, "stablelm.use_parallel_residual": False},
         {"output.weight", "output_norm.bias", "blk.1.ffn_norm.bias", "stablelm.attention.layer_norm_epsilon"}),
        ("gemma-2b", {"gemma.attention.key_length": 64, "tokenizer.ggml.eot_token_id": 107}, {"token_embd.weight"}),
        ("llama-3.2-1b", {"llama.rope.freq_base": 500_000.0, "tokenizer.ggml.model": "gpt2"}, {"rope_freqs.weight"}),
        ("qwen2.5-0.5b", {"tokenizer.ggml.add_bos_token": False}, {"blk.0.attn_q.bias", "blk.1.attn_v.bias"}),
    ],
)  # fmt: skip
def test_each_architecture_has_what_is_its_own(
    tmp_path: Path, name: str, expected: dict[str, object], there: set[str]
) -> None:
    real = NETWORKS[name]
    small = narrow(real, layers=2)
    keys, found = read(make_network(small, tmp_path / "m.gguf", QUANTS["q4_0"], 1).path)
    assert {key: keys[key] for key in expected} == expected
    assert there <= {*keys, *found}
    assert ("output.weight" in found) is (not real.tied)
    assert ("tokenizer.ggml.merges" in keys) is (real.vocabulary.kind == "gpt2")


def test_the_file_is_labelled_synthetic_with_its_maker_and_seed(tmp_path: Path) -> None:
    told = make("llm-toy", tmp_path / "m.gguf", seed=12)
    keys, _ = read(told.path)
    labels = {key: value for key, value in keys.items() if key.startswith("melt.")}
    assert labels == {"melt.synthetic": True, "melt.maker": "llm-toy", "melt.seed": 12, "melt.revision": 1}
    assert "synthetic" in keys["general.name"]
    assert keys["general.description"].startswith("Synthetic: ")
    assert (told.synthetic, told.maker, told.seed) == (True, "llm-toy", 12)


def test_making_returns_what_info_tells(tmp_path: Path) -> None:
    assert make("llm-toy", tmp_path / "m.gguf") == info(tmp_path / "m.gguf")


def test_name_quantisation_and_seed_decide_the_bytes(tmp_path: Path) -> None:
    one, same, seed, quant = (
        make("llm-toy", tmp_path / f"{i}.gguf", quant=quant, seed=seed).sha256
        for i, (quant, seed) in enumerate((("q4_k", 5), ("q4_k", 5), ("q4_k", 6), ("q3_k", 5)))
    )
    assert one == same
    assert len({one, seed, quant}) == 3


def test_the_bytes_are_those_of_every_machine(tmp_path: Path) -> None:
    """Changes only together with melt.makers.gguf.writer.REVISION."""
    assert (
        make("llm-toy", tmp_path / "m.gguf", quant="q4_k", seed=1).sha256
        == "0d480ac3c743be9da9607382308adb682d23943d2135029ade80792c4f693e2b"
    )


def test_tensors_of_one_model_differ(tmp_path: Path) -> None:
    _, found = read(make("llm-toy", tmp_path / "m.gguf").path)
    data = [found[f"blk.{layer}.{part}.weight"].data.tobytes() for layer in range(4) for part in ("attn_q", "ffn_up")]
    assert len(set(data)) == len(data)


def test_a_file_that_is_there_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("old")
    make("llm-toy", tmp_path / "m.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]
    assert info(tmp_path / "m.gguf").synthetic


@pytest.mark.peer
def test_a_model_of_a_billion_parameters_takes_little_memory(tmp_path: Path) -> None:
    """640 MB on the disk. The peak is of the program alone: getrusage's would hold that of the test that forked it."""
    script = (
        "import json, sys; from pathlib import Path; from melt.makers.gguf import make\n"
        "told = make('tinyllama-1.1b', Path(sys.argv[1]))\n"
        "(peak_kb,) = (line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(json.dumps({'peak': int(peak_kb) * 1024, 'parameters': told.parameters, 'size': told.size_bytes}))"
    )
    out = tmp_path / "m.gguf"
    try:
        done = python(script, out)
        assert done.returncode == 0, done.stderr
    finally:
        out.unlink(missing_ok=True)
    measured = json.loads(done.stdout)
    assert measured["parameters"] == 1_100_048_384
    assert measured["size"] > 630_000_000
    assert measured["peak"] < MEMORY_BYTES


# ------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("limit_bytes", [1_000, 60_000, 2_000_000])
def test_a_disk_that_fills_up_leaves_the_old_file_and_no_part(tmp_path: Path, limit_bytes: int) -> None:
    """Within the header's first bytes, its vocabulary, and the weights."""
    out = tmp_path / "m.gguf"
    out.write_text("old")
    script = (
        "import resource, sys; from pathlib import Path; from melt.makers.gguf import make\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "make('llm-toy', Path(sys.argv[1]))"
    )
    done = python(script, out, str(limit_bytes))
    assert "UsageError" in done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert "ResourceWarning" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]
    assert out.read_text() == "old"


def test_a_model_larger_than_the_free_space_is_not_begun(tmp_path: Path) -> None:
    huge = dataclasses.replace(NETWORKS["llama-2-13b"], name="huge", layers=20_000)
    with pytest.raises(UsageError, match=rf"takes [0-9,]+ bytes, and {tmp_path} has [0-9,]+ free"):
        make_network(huge, tmp_path / "m.gguf", QUANTS["q4_0"], 1)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import signal, sys; from pathlib import Path; from melt.makers.gguf import make\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "make('llama-3.2-3b', Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "m.gguf")], stderr=subprocess.PIPE) as maker:
        try:
            until = time.monotonic() + 60
            while not any(p.stat().st_size > 10_000_000 for p in tmp_path.iterdir()):
                assert maker.poll() is None, maker.stderr and maker.stderr.read()
                assert time.monotonic() < until, "it does not begin to write"
                time.sleep(0.01)
            maker.send_signal(signal.SIGINT)
            _, stderr = maker.communicate(timeout=60)
        finally:
            maker.kill()
    assert b"KeyboardInterrupt" in stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "quant", "seed", "says"),
    [
        ("tinylama-1.1b", "q4_0", 1, "'tinylama-1.1b': did you mean 'tinyllama-1.1b'"),
        ("llm-toy", "q4_1", 1, "no quantisation is called 'q4_1': did you mean"),
        ("llm-toy", "q4_0", -1, "seed -1"),
        ("llm-toy", "q4_0", 2**63, "seed"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_ones(
    tmp_path: Path, name: str, quant: str, seed: int, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        make(name, tmp_path / "m.gguf", quant=quant, seed=seed)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"folder {tmp_path}/absent does not exist"):
        make("llm-toy", tmp_path / "absent" / "m.gguf")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        make("llm-toy", tmp_path)


def test_a_name_too_long_for_the_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        make("llm-toy", tmp_path / ("m" * 300))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["make('llm-toy', out)", "info(out)"])
def test_without_gguf_the_makers_import_and_say_what_to_install(tmp_path: Path, call: str) -> None:
    script = (
        "import sys; sys.modules['gguf'] = None\n"  # what an absent package looks like to import
        "from pathlib import Path; from melt.errors import UsageError; from melt.makers.gguf import info, make\n"
        "out = Path(sys.argv[1])\n"
        f"try: {call}\n"
        "except UsageError as error: print(error)"
    )
    done = python(script, tmp_path / "m.gguf")
    assert "pip install 'melt[llm]'" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())
