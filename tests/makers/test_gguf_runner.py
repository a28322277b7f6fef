"""melt's own runner on a made model of every architecture and quantisation."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from narrow_networks import narrow

from melt.errors import MeltError
from melt.makers.gguf import NETWORKS, QUANTS, make_network
from melt.native import build_llama_runner, choose_level, host_machine

pytestmark = pytest.mark.peer

GENERATED = 8


@pytest.fixture(scope="module")
def runner() -> Path:
    words = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = next((line.split(":")[1].split() for line in words if line.startswith(("flags", "Features"))), [])
    try:
        return build_llama_runner(choose_level(host_machine(), frozenset(flags)))
    except MeltError as error:
        pytest.skip(f"no language-model runner ({error}): NOT tested is whether it runs what melt makes")


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        *(("llm-toy", quant) for quant in QUANTS),
        *((name, "q4_k") for name in ("zephyr-3b", "gemma-2b", "llama-3.2-1b", "qwen2.5-0.5b")),
    ],
)
def test_the_runner_generates_from_a_text(tmp_path: Path, runner: Path, name: str, quant: str) -> None:
    network = narrow(NETWORKS[name], layers=4)
    make_network(network, tmp_path / "m.gguf", QUANTS[quant], 1)
    (tmp_path / "text").write_text("What is 2 + 2? 中文", encoding="utf-8")
    arguments = {
        "--model": "m.gguf", "--events": "events", "--output": "output", "--mode": "prompt", "--text-file": "text",
        "--context": "128", "--generate-tokens": str(GENERATED),
    }  # fmt: skip
    done = subprocess.run(
        [str(runner), *(word for pair in arguments.items() for word in pair)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert done.returncode == 0, (done.stderr, events[-1:])
    assert events[-1]["ev"] == "done"
    tokens = [int(word) for word in (tmp_path / "output").read_text().split()]
    assert 0 < len(tokens) <= GENERATED
    assert all(0 <= token < network.vocabulary.size for token in tokens)
