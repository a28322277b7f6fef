"""The library for another processor: fetched once with pip, taken out of a wheel that nobody trusts, or refused."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import random
import signal
import stat
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
from workspace import until

from melt import makers
from melt.engines import Request, StopRules, wheels
from melt.engines.onnxruntime import OnnxRuntime
from melt.engines.wheels import onnxruntime_library
from melt.errors import MeltError, Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEMBER = "onnxruntime/capi/libonnxruntime.so.1.31.1"
AARCH64, X86_64 = 183, 62
VERSION = importlib.metadata.version("onnxruntime")

LEAVES_THE_WHEEL = "shutil.copy(os.environ['MADE_WHEEL'], folder)"


def elf(machine: int = AARCH64, size: int = 5000) -> bytes:
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + machine.to_bytes(2, "little")
    return head + random.Random(1).randbytes(size - len(head))


def member(name: str = MEMBER, mode: int = stat.S_IFREG | 0o755) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def wheel(path: Path, *entries: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("onnxruntime/__init__.py", "raise SystemExit('nothing of a wheel is run')")
        for info, data in entries:
            archive.writestr(info, data)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, still empty; the folder that libraries are kept in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where a killed fetch leaves its half of a wheel
    return tmp_path / "cache" / "melt" / "libraries"


@pytest.fixture
def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program in pip's place which does `body` when asked for a wheel; gives the wheel's path to fill."""
    place = tmp_path / "path" / "pip"
    place.mkdir(parents=True)
    (place / "__init__.py").touch()
    made = tmp_path / "onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_aarch64.whl"
    monkeypatch.setenv("PYTHONPATH", str(place.parent))
    monkeypatch.setenv("MADE_WHEEL", str(made))

    def make(body: str) -> Path:
        begin = "import os, shutil, sys, time\nfolder = sys.argv[sys.argv.index('--dest') + 1]\n"
        (place / "__main__.py").write_text(f"{begin}{body}\n")
        return made

    return make


def sentence(error: type[MeltError] = UsageError, machine: str = "aarch64") -> str:
    with pytest.raises(error) as caught:
        onnxruntime_library(machine)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 700
    return said


def in_cache(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("*")) if cache.exists() else []


# ------------------------------------------------------------------------------------------------------- the fetch


def test_only_the_library_is_kept_and_a_second_call_starts_no_process(
    fake_pip: Callable[[str], Path],
    cache: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    noise = "print('noise'); print('noise', file=sys.stderr); assert not sys.stdin.read()\n"
    other = (member("onnxruntime/capi/libonnxruntime_providers_shared.so"), elf(size=100))
    wheel(fake_pip(noise + LEAVES_THE_WHEEL), (member(), elf()), other)
    said: list[str] = []
    path = onnxruntime_library("aarch64", said.append)
    assert path == cache / f"libonnxruntime-{VERSION}-aarch64.so"
    assert path.read_bytes() == elf()
    assert said == [f"fetching onnxruntime {VERSION} for aarch64 with pip, once"]
    fake_pip("sys.exit('asked again')")
    assert onnxruntime_library("aarch64", said.append) == path
    assert len(said) == 1
    assert in_cache(cache) == [path.name]
    assert capfd.readouterr() == ("", "")


def test_pip_is_asked_for_the_version_that_is_installed_here(fake_pip: Callable[[str], Path], tmp_path: Path) -> None:
    fake_pip(f"open({str(tmp_path / 'argv')!r}, 'w').write(chr(10).join(sys.argv[1:])); sys.exit(1)")
    sentence(machine="x86_64")
    argv = (tmp_path / "argv").read_text().splitlines()
    assert argv[:2] == ["download", f"onnxruntime=={VERSION}"]
    assert argv[argv.index("--platform") + 1] == "manylinux_2_28_x86_64"
    assert {"--no-deps", "--only-binary=:all:"} < set(argv), "nothing that could run code of the package"


def test_without_pip_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    said = sentence()
    assert "-m ensurepip" in said
    assert "engines.onnxruntime.library" in said


@pytest.mark.parametrize(
    ("body", "error", "told"),
    [
        ("sys.exit('ERROR: No matching distribution found for x')", Unsupported, "there is no wheel of onnxruntime=="),
        (
            "sys.exit('WARNING: Retrying after connection broken by y\\nERROR: No matching distribution found for x')",
            UsageError,
            "mend the network",
        ),
        ("sys.exit('first\\nERROR: No space left on device')", UsageError, "No space left on device"),
        ("sys.exit(3)", UsageError, "it said nothing"),
        ("sys.stderr.buffer.write(b'\\xff' * 100_000); sys.exit(1)", UsageError, "does not fetch"),
        ("", UsageError, "left 0 wheels"),
        ("[open(f'{folder}/{n}.whl', 'w') for n in 'ab']", UsageError, "left 2 wheels"),
    ],
)
def test_a_fetch_that_fails_is_told_with_what_to_do(
    fake_pip: Callable[[str], Path], cache: Path, body: str, error: type[MeltError], told: str
) -> None:
    fake_pip(body)
    said = sentence(error)
    assert told in said
    assert "engines.onnxruntime.library" in said
    assert in_cache(cache) == []


def test_a_fetch_that_hangs_is_ended(fake_pip: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip("time.sleep(600)")
    monkeypatch.setattr(wheels, "_FETCH_LIMIT_S", 1)
    assert "within 1 s" in sentence()


def test_a_machine_that_melt_has_no_programs_for_is_unsupported() -> None:
    assert "engines.onnxruntime.library" in sentence(Unsupported, "riscv64")


def test_a_cache_that_cannot_be_written_is_told(fake_pip: Callable[[str], Path], cache: Path) -> None:
    wheel(fake_pip(LEAVES_THE_WHEEL), (member(), elf()))
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    assert "XDG_CACHE_HOME" in sentence()


def test_a_disk_that_is_full_is_told_and_holds_no_half(
    fake_pip: Callable[[str], Path], tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(fake_pip(LEAVES_THE_WHEEL), (member(), elf() + bytes(2 << 20)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny_disk))
    assert "No space left on device" in sentence()
    assert in_cache(tiny_disk / "melt" / "libraries") == []


def test_a_file_named_pip_in_the_current_folder_is_not_pip(
    fake_pip: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(fake_pip(LEAVES_THE_WHEEL), (member(), elf()))
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert onnxruntime_library("aarch64").read_bytes() == elf()


def begin(argument: str = "aarch64") -> subprocess.Popen[bytes]:
    """The call in a process, and in a process group, of its own."""
    code = "import sys; from melt.engines.wheels import onnxruntime_library as get; get(sys.argv[1])"
    return subprocess.Popen([sys.executable, "-c", code, argument], start_new_session=True)


def kill(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def test_a_fetch_that_is_killed_leaves_nothing_and_the_next_one_works(
    fake_pip: Callable[[str], Path], cache: Path, tmp_path: Path
) -> None:
    half = f"open(f'{{folder}}/x.whl', 'wb').write(b'PK'); open({str(tmp_path / 'there')!r}, 'w'); time.sleep(600)"
    fake_pip(half)
    child = begin()
    until((tmp_path / "there").exists, "pip's half of a wheel")
    kill(child)
    assert in_cache(cache) == []
    wheel(fake_pip(LEAVES_THE_WHEEL), (member(), elf()))
    assert onnxruntime_library("aarch64").read_bytes() == elf()


def test_unpacking_that_is_killed_leaves_no_library_under_its_name(
    fake_pip: Callable[[str], Path], cache: Path
) -> None:
    made = fake_pip(LEAVES_THE_WHEEL)
    wheel(made, (member(), elf() + bytes(250 << 20)))
    child = begin()
    until(lambda: any(name.endswith(".part") for name in in_cache(cache)), "a library half unpacked")
    kill(child)
    assert not any(name.endswith(".so") for name in in_cache(cache))
    made.unlink()
    wheel(made, (member(), elf()))
    assert onnxruntime_library("aarch64").read_bytes() == elf()


# ------------------------------------------------------------------------------------------------------- the wheel


HOSTILE = {
    "no library": [(member("onnxruntime/capi/other.so"), elf())],
    "a path outside": [(member("onnxruntime/capi/../../../../libonnxruntime.so"), elf())],
    "an absolute path": [(member("/onnxruntime/capi/libonnxruntime.so"), elf())],
    "a longer name": [(member("onnxruntime/capi/libonnxruntime.so.1/evil"), elf())],
    "a line more": [(member("onnxruntime/capi/libonnxruntime.so\n"), elf())],
    "a link": [(member(mode=stat.S_IFLNK | 0o777), b"/etc/passwd")],
    "a device": [(member(mode=stat.S_IFCHR | 0o666), b"")],
    "a pipe": [(member(mode=stat.S_IFIFO | 0o666), elf())],
    "another processor": [(member(), elf(X86_64))],
    "32 bits": [(member(), b"\x7fELF\x01" + elf()[5:])],
    "a text": [(member(), b"not a library" * 9)],
    "nothing in it": [(member(), b"")],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_wheel_is_refused_and_nothing_is_kept(
    fake_pip: Callable[[str], Path], cache: Path, entries: list[tuple[zipfile.ZipInfo, bytes]]
) -> None:
    made = wheel(fake_pip(LEAVES_THE_WHEEL), *entries)
    said = sentence()
    assert f"the wheel {made.name} is broken" in said
    assert in_cache(cache) == []


def test_a_library_that_is_larger_than_it_may_be_is_not_unpacked(fake_pip: Callable[[str], Path], cache: Path) -> None:
    wheel(fake_pip(LEAVES_THE_WHEEL), (member(), elf() + bytes(257 << 20)))
    assert "larger than 256 MiB" in sentence()
    assert in_cache(cache) == []


def test_a_size_that_is_a_lie_is_found_out(fake_pip: Callable[[str], Path], cache: Path) -> None:
    made = wheel(fake_pip(LEAVES_THE_WHEEL), (member(), elf() + bytes(1 << 20)))
    data, true = made.read_bytes(), (5000 + (1 << 20)).to_bytes(4, "little")
    assert data.count(true) == 2
    made.write_bytes(data.replace(true, (5000).to_bytes(4, "little")))
    assert "is broken" in sentence()
    assert in_cache(cache) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_no_wheel_has_is_refused(fake_pip: Callable[[str], Path], method: int) -> None:
    info = member()
    info.compress_type = method
    wheel(fake_pip(LEAVES_THE_WHEEL), (info, elf()))
    assert "compressed in a way" in sentence()


def test_whatever_is_changed_in_a_wheel_it_is_the_library_or_a_sentence(tmp_path: Path) -> None:
    made = wheel(tmp_path / "a.whl", (member(), elf()))
    good = made.read_bytes()
    refused = 0
    for seed in range(2000):
        dice = random.Random(seed)
        data = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            # most of the file is the library itself: look at what is around it just as often
            at = dice.choice([dice.randrange(len(data)), dice.randrange(200), len(data) - 1 - dice.randrange(300)])
            data[at] = dice.randrange(256)
        made.write_bytes(data[: dice.choice([len(data), len(data), dice.randrange(len(data))])])
        try:
            assert wheels._library_in(made, "aarch64") == elf()
        except UsageError:
            refused += 1
    assert 400 < refused < 2000


# --------------------------------------------------------------------------------------------------- the real pip


@pytest.mark.peer
def test_the_real_pip_without_a_network_is_told_as_such(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    _own_pip_settings(monkeypatch)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    assert "mend the network" in sentence()
    assert in_cache(cache) == []


@pytest.mark.peer
def test_the_real_pip_that_finds_no_wheel_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    _own_pip_settings(monkeypatch)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert "there is no wheel" in sentence(Unsupported)


@pytest.mark.peer
@pytest.mark.parametrize(("machine", "number"), [("aarch64", AARCH64), ("x86_64", X86_64)])
def test_the_real_wheel_holds_a_library_for_that_processor(machine: str, number: int, cache: Path) -> None:
    path = _fetched(machine)
    assert int.from_bytes(path.read_bytes()[18:20], "little") == number
    assert path.stat().st_size > 10 << 20
    assert in_cache(cache) == [path.name]


@pytest.mark.peer
def test_the_engine_delivers_the_library_of_the_device_s_processor(tmp_path: Path) -> None:
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    kept = _fetched(other)
    makers.make("mlp", tmp_path / "m.onnx")
    request = Request("small", tmp_path / "m.onnx", other, {}, {}, StopRules(0.0, 0, 0.0, 1))
    assert OnnxRuntime().prepare(request).files["library"] == kept


def _own_pip_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def _fetched(machine: str) -> Path:
    with contextlib.suppress(UsageError):
        return onnxruntime_library(machine)
    pytest.skip(f"the wheel for {machine} is NOT tested: it cannot be fetched here")
