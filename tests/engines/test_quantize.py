"""Quantising with llama.cpp's own quantiser: the same file as its makers would get, whole or not there."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import psutil
import pytest
from host_llama import llama_cpp
from makers.narrow_networks import narrow
from ondevice import tiny_llama
from workspace import may, until

from melt.engines.llama_process import llama_process
from melt.engines.quantize import FILE_TYPES, quantize
from melt.errors import MeltError, UsageError
from melt.makers.gguf import NETWORKS, QUANTS, info, make, make_network

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peer

SEED = 7
MIX = ("q4_k", "q3_k_s", "iq4_xs")
"""A mix, an unmixed one and one that converts slowly: which tensors get which type is llama.cpp's own choice."""


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    try:
        with llama_process(None):
            pass
    except MeltError as error:
        pytest.skip(f"no llama.cpp on this computer ({error}): quantising is NOT tested")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llm-toy", tmp_path_factory.mktemp("toy") / "toy.gguf", quant="f16", seed=SEED).path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of it."""
    network = narrow(NETWORKS["llm-toy"], layers=1)
    return make_network(network, tmp_path_factory.mktemp("small") / "small.gguf", QUANTS["f16"], SEED).path


def silent(sentence: str) -> None:
    assert sentence.isprintable()


def only(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


# ------------------------------------------------------------------------------------------------------- what is made


@pytest.mark.parametrize("to", FILE_TYPES)
def test_every_type_gives_a_model_that_is_still_labelled_synthetic(small: Path, tmp_path: Path, to: str) -> None:
    told = quantize(small, tmp_path / "out.gguf", to, say=silent)
    before = info(small)
    assert told == info(tmp_path / "out.gguf")
    assert (told.synthetic, told.seed, told.maker, told.description) == (True, SEED, "llm-toy", before.description)
    assert told.parameters == before.parameters
    assert gguf.GGUFReader(told.path).fields["general.file_type"].contents() == FILE_TYPES[to]
    assert only(tmp_path, "out.gguf")


def test_the_names_are_llama_cpps_own() -> None:
    numbers = {
        name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_").lower(): value
        for name, value in vars(llama_cpp()).items()
        if name.startswith("LLAMA_FTYPE_")
    }
    short = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}
    assert {name: numbers[short.get(name, name)] for name in FILE_TYPES} == dict(FILE_TYPES)


@pytest.mark.parametrize("to", MIX)
def test_it_is_the_file_that_the_same_library_writes_without_melt(small: Path, tmp_path: Path, to: str) -> None:
    parameters = llama_cpp().llama_model_quantize_default_params()
    parameters.nthread, parameters.ftype = 1, FILE_TYPES[to]
    theirs = tmp_path / "theirs.gguf"
    code = llama_cpp().llama_model_quantize(os.fsencode(small), os.fsencode(theirs), ctypes.byref(parameters))
    assert code == 0
    quantize(small, tmp_path / "ours.gguf", to, say=silent)
    assert (tmp_path / "ours.gguf").read_bytes() == theirs.read_bytes()


def test_a_model_of_someone_else_is_not_labelled(tmp_path: Path) -> None:
    told = quantize(tiny_llama.write(tmp_path / "m.gguf"), tmp_path / "out.gguf", "q8_0", say=silent)
    assert (told.synthetic, told.maker, told.name) == (False, None, "tiny")


def test_what_has_the_type_already_is_copied_and_that_is_told(toy: Path, tmp_path: Path) -> None:
    said: list[str] = []
    quantize(toy, tmp_path / "out.gguf", "f16", say=said.append)
    assert "was f16 already" in said[-1]
    assert info(tmp_path / "out.gguf").types == info(toy).types


# ----------------------------------------------------------------------------------------------------- what is refused


def refused(source: Path, target: Path, to: str) -> str:
    before = sorted(target.parent.iterdir()) if target.parent.is_dir() else []
    with pytest.raises(UsageError) as raised:
        quantize(source, target, to, say=silent)
    assert str(raised.value).isprintable()
    assert (sorted(target.parent.iterdir()) if target.parent.is_dir() else []) == before
    return str(raised.value)


def test_an_unknown_type_is_told_with_the_nearest(toy: Path, tmp_path: Path) -> None:
    assert "'q4k': did you mean 'q4_k'?" in refused(toy, tmp_path / "out.gguf", "q4k")


def test_what_is_no_model_is_refused(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("once upon a time")
    assert "text.gguf: not a GGUF model" in refused(tmp_path / "text.gguf", tmp_path / "out.gguf", "q4_0")
    assert "none.gguf: no such file" in refused(tmp_path / "none.gguf", tmp_path / "out.gguf", "q4_0")
    (tmp_path / "short.gguf").write_bytes(toy.read_bytes()[:-1000])
    assert "cut short" in refused(tmp_path / "short.gguf", tmp_path / "out.gguf", "q4_0")


def test_an_unknown_architecture_is_told_by_name(tmp_path: Path) -> None:
    source = tiny_llama.write(tmp_path / "m.gguf", tiny_llama.Shape(architecture="nonesuch"))
    assert "nonesuch" in refused(source, tmp_path / "out.gguf", "q4_0")


@pytest.mark.parametrize("to", ["q8_0", "f16", "q4_k"])
def test_a_quantised_model_is_not_quantised_again(tmp_path: Path, to: str) -> None:
    source = make("llm-toy", tmp_path / "m.gguf", quant="q4_0").path
    said = refused(source, tmp_path / "out.gguf", to)
    assert "m.gguf is quantised already" in said
    assert "f16 or f32" in said


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    source = tiny_llama.write(tmp_path / "m.gguf")
    tensor = next(t for t in gguf.GGUFReader(source).tensors if t.name == "blk.0.ffn_up.weight")
    with source.open("r+b") as file:
        file.seek(tensor.data_offset)
        file.write(b"\xff" * 4096)
    assert "m.gguf" in refused(source, tmp_path / "out.gguf", "q8_0")


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_changed_in_a_file_ends_with_a_model_or_a_refusal(small: Path, tmp_path: Path, seed: int) -> None:
    chance, source = random.Random(seed), tmp_path / "m.gguf"
    data = bytearray(small.read_bytes())
    for _ in range(chance.choice([1, 4, 16])):
        data[chance.randrange(24, chance.choice([2000, len(data)]))] = chance.randrange(256)
    source.write_bytes(data)
    try:
        quantize(source, tmp_path / "out.gguf", "q4_0", say=silent)
    except UsageError as error:
        assert str(source) in str(error)  # noqa: PT017 - either is well
        assert only(tmp_path, "m.gguf")
    else:
        assert only(tmp_path, "m.gguf", "out.gguf")


def test_a_target_that_is_there_or_cannot_be_is_refused(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "there.gguf").write_text("mine")
    assert "there.gguf is there already" in refused(toy, tmp_path / "there.gguf", "q4_0")
    assert (tmp_path / "there.gguf").read_text() == "mine"
    (tmp_path / "link.gguf").symlink_to("nowhere")
    assert "link.gguf is there already" in refused(toy, tmp_path / "link.gguf", "q4_0")
    assert "is there already" in refused(toy, toy, "q4_0")
    assert "does not exist; make it first" in refused(toy, tmp_path / "no" / "out.gguf", "q4_0")
    assert "cannot be written (File name too long)" in refused(toy, tmp_path / ("é" * 200), "q4_0")


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, mounted with the options that the test names."""
    place = tmp_path / "disk"
    place.mkdir()
    if not may("mount", "-t", "tmpfs", "-o", request.param, "none", str(place)):
        pytest.skip("full and read-only disks are NOT tested: only root may mount one")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("disk", ["ro"], indirect=True)
def test_a_folder_that_cannot_be_written_is_told(toy: Path, disk: Path) -> None:
    assert "cannot be written (Read-only file system)" in refused(toy, disk / "out.gguf", "q4_0")


@pytest.mark.parametrize("disk", ["size=2m"], indirect=True)
def test_a_disk_that_is_too_small_is_told_before_anything_is_computed(toy: Path, disk: Path) -> None:
    said = refused(toy, disk / "out.gguf", "q8_0")
    assert "takes 5," in said
    assert "make room there" in said


@pytest.mark.parametrize("left_bytes", [0, 1, 200_000, 1_500_000, 3_000_000], ids=str)
@pytest.mark.parametrize("disk", ["size=16m"], indirect=True)
def test_a_disk_that_becomes_full_leaves_nothing(toy: Path, disk: Path, left_bytes: int) -> None:
    """Someone else fills it up after it was found to be large enough."""
    filled = disk / "filled"

    def fill(sentence: str) -> None:
        if sentence.startswith("quantising") and not filled.exists():
            filled.write_bytes(bytes(shutil.disk_usage(disk).free - left_bytes))

    with pytest.raises(UsageError, match=r"out.gguf.*(disk became full|No space left)") as raised:
        quantize(toy, disk / "out.gguf", "q4_0", say=fill)
    assert str(raised.value).isprintable()
    assert only(disk, "filled")


@pytest.mark.parametrize("disk", ["size=16m"], indirect=True)
def test_a_disk_that_has_just_enough_is_enough(toy: Path, disk: Path) -> None:
    quantize(toy, disk / "first.gguf", "q4_0", say=silent)
    needed = (disk / "first.gguf").stat().st_size
    (disk / "filled").write_bytes(bytes(shutil.disk_usage(disk).free - needed - 20_000))
    quantize(toy, disk / "second.gguf", "q4_0", say=silent)
    assert (disk / "first.gguf").read_bytes() == (disk / "second.gguf").read_bytes()


# ------------------------------------------------------------------------------------------------- what becomes of it


def worker() -> psutil.Process:
    (found,) = [p for p in psutil.Process().children() if any("llama_worker" in word for word in p.cmdline())]
    return found


def test_it_tells_how_far_it_is(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melt.engines.quantize._SAY_EVERY_S", 0)
    said: list[str] = []
    quantize(small, tmp_path / "out.gguf", "q4_0", say=said.append)
    tensors = len(gguf.GGUFReader(small).tensors)
    assert said[1:] == [f"quantising {small} to q4_0: {n} of {tensors} tensors" for n in range(1, tensors + 1)]


def test_native_code_that_is_killed_leaves_nothing(toy: Path, tmp_path: Path) -> None:
    def kill(sentence: str) -> None:
        if sentence.startswith("quantising"):
            worker().kill()

    with pytest.raises(UsageError, match=r"toy.gguf: llama.cpp was killed, as a system does .* to iq4_nl"):
        quantize(toy, tmp_path / "out.gguf", "iq4_nl", say=kill)
    assert only(tmp_path)


def test_memory_that_does_not_suffice_is_told(toy: Path, tmp_path: Path) -> None:
    def limit(sentence: str) -> None:
        if sentence.startswith("quantising"):
            process = worker()
            resource.prlimit(process.pid, resource.RLIMIT_AS, (process.memory_info().vms + (1 << 20),) * 2)

    with pytest.raises(UsageError, match=r"toy.gguf: (there is not enough memory|llama.cpp ended)"):
        quantize(toy, tmp_path / "out.gguf", "iq4_nl", say=limit)
    assert only(tmp_path)


def begun(toy: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A command line that quantises slowly, and has begun to write; it goes no further."""
    argv = [sys.executable, "-m", "melt", "model", "quantize", str(toy), "--to", "iq4_nl", "--out", "out.gguf"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    melt = subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: any(path.stat().st_size for path in folder.glob(".out.gguf.*.part")), "its first bytes", 120)
    for child in psutil.Process(melt.pid).children():
        child.suspend()  # or it would be done before a slow computer's test goes on
    return melt


def test_ctrl_c_leaves_nothing(toy: Path, tmp_path: Path) -> None:
    melt = begun(toy, tmp_path)
    (child,) = psutil.Process(melt.pid).children()
    os.kill(melt.pid, signal.SIGINT)
    out, err = melt.communicate(timeout=60)
    assert melt.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
    assert not child.is_running()
    assert only(tmp_path)


def test_the_command_line_tells_what_it_made(toy: Path, tmp_path: Path) -> None:
    copy = shutil.copy(toy, tmp_path / "toy.gguf")
    argv = [sys.executable, "-m", "melt", "model", "quantize", str(copy), "--to", "q4_k"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "toy-q4_k.gguf" in done.stdout
    assert "synthetic" in done.stdout
    assert "Q4_K: 25 tensors" in done.stdout
    assert done.stderr.startswith("quantising ")
    assert only(tmp_path, "toy.gguf", "toy-q4_k.gguf")
    again = subprocess.run(
        [*argv, "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stdout) == (2, "")
    assert "is there already" in again.stderr
