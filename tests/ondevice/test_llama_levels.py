"""The runner of every level for aarch64, under emulation: the same greedy tokens as on x86-64, by its own means."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from melt import native
from melt.errors import MeltError, UsageError
from melt.makers import gguf
from melt.native.host import cpu_flags

tiny_llama = pytest.importorskip("tiny_llama", reason="levels for aarch64 are NOT tested: the gguf package is missing")

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("levels")]

QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
LEVELS = native.levels("aarch64")
FEATURES = {
    "armv8-a": frozenset[str](),
    "armv8.2-a+dotprod+fp16": frozenset({"DOTPROD", "FP16_VA"}),
    "armv8.2-a+dotprod+fp16+i8mm": frozenset({"DOTPROD", "FP16_VA", "MATMUL_INT8"}),
}
"""Beside NEON and FMA, what llama.cpp must say that it was compiled with."""
NEWER = frozenset({"SVE", "SME", "SVE_CNT"})
"""What no level may have: a processor without it would end there."""

every_level = pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)


def built(level: native.Level) -> Path:
    try:
        return native.build_llama_runner(level)
    except MeltError as error:
        pytest.skip(f"the runner for {level.name} is NOT tested: {error}")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model in 32-bit floats, and one whose weights are the 8- and 4-bit blocks that these levels are for."""
    folder = tmp_path_factory.mktemp("models")
    made = {"f32": tiny_llama.write(folder / "f32.gguf")}
    for quant in ("q8_0", "q4_0"):
        made[quant] = folder / f"{quant}.gguf"
        gguf.make("llm-toy", made[quant], quant=quant)
    return made


def tokens(program: Path, model: Path, folder: Path, before: tuple[str, ...] = ()) -> list[int]:
    """What a short greedy request generates."""
    folder.mkdir(exist_ok=True)
    argv = [*before, program, "--model", model, "--events", folder / "events", "--output", folder / "output"]
    argv += ["--mode", "fixed", "--prompt-tokens", "24", "--generate-tokens", "16", "--context", "64"]
    # a cache in 16-bit floats is multiplied in 16 bits where a level can, which rounds otherwise
    argv += ["--kv-k", "f32", "--kv-v", "f32", "--flash-attn", "off"]
    done = subprocess.run(list(map(str, argv)), capture_output=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return [int(word) for word in (folder / "output").read_text().split()]


@pytest.fixture(scope="module")
def wanted(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """The tokens that this x86-64 computer generates, by model."""
    if native.host_machine() != "x86_64" or QEMU is None:
        pytest.skip("levels for aarch64 are NOT tested: that takes an x86-64 computer with qemu-aarch64")
    level = native.choose_level("x86_64", cpu_flags(Path("/proc/cpuinfo")))
    program, folder = built(level), tmp_path_factory.mktemp("wanted")
    found = {name: tokens(program, model, folder) for name, model in models.items()}
    assert all(len(set(line)) > 3 for line in found.values()), "a model that repeats itself would show nothing"
    return found


@every_level
def test_a_level_has_what_it_promises_and_no_more(level: native.Level) -> None:
    if QEMU is None:
        pytest.skip(f"what the runner for {level.name} says is NOT tested: there is no qemu-aarch64")
    argv = [QEMU, "-cpu", "max", str(built(level)), "--try"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True).stdout
    assert f" for {level.name}\n" in said
    has = {name for name, on in re.findall(r"(\w+) = ([01])", said) if on == "1"}
    assert FEATURES[level.name] <= has
    assert not has & (NEWER | {name for more in FEATURES.values() for name in more} - FEATURES[level.name])


@every_level
@pytest.mark.parametrize("model", ["f32", "q8_0", "q4_0"])
def test_a_level_generates_the_same_tokens(
    level: native.Level, model: str, models: dict[str, Path], wanted: dict[str, list[int]], tmp_path: Path
) -> None:
    assert QEMU is not None
    program = built(level)
    assert tokens(program, models[model], tmp_path, (QEMU, "-cpu", "max")) == wanted[model]
    last = (tmp_path / "events").read_text().splitlines()
    (engine,) = (event for event in map(json.loads, last) if event.get("name") == "engine")
    assert engine["level"] == level.name


@pytest.mark.parametrize("level", LEVELS[1:], ids=lambda level: level.name)
def test_a_processor_without_the_instructions_is_ended_by_them_which_is_why_a_level_is_chosen(
    level: native.Level, models: dict[str, Path], wanted: dict[str, list[int]], tmp_path: Path
) -> None:
    """Without this the tests above could pass on a build that uses none of its instructions."""
    assert QEMU is not None
    argv = [QEMU, "-cpu", "cortex-a72", str(built(level)), "--model", models["q4_0"], "--events", tmp_path / "events"]
    argv += ["--output", tmp_path / "output", "--mode", "fixed", "--prompt-tokens", "24", "--generate-tokens", "4"]
    done = subprocess.run(list(map(str, [*argv, "--context", "64"])), capture_output=True, timeout=600, check=False)
    assert done.returncode in (-4, 132), done.stderr  # SIGILL, as it is or as qemu tells it


def test_a_level_that_is_not_known_is_named_with_the_nearest() -> None:
    assert native.named_level("x86-64-v4").machine == "x86_64"
    with pytest.raises(UsageError, match=r"'armv8\.2-a' is no level of processor: did you mean 'armv8-a'"):
        native.named_level("armv8.2-a")
