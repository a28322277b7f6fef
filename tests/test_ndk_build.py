"""`melt build llama.cpp --ndk`: with a folder that is shaped like Android's NDK. No NDK is here, so nothing is proven.

Its compiler is zig by another name and its C library is musl, not bionic: tested is what melt asks of an NDK.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from melt import native
from melt.errors import MeltError, UsageError
from melt.native.ndk import build_with_ndk
from melt.places import cache_dir

BIN = "toolchains/llvm/prebuilt/linux-x86_64/bin"
QUICK = ("-DCMAKE_C_FLAGS_RELEASE=-O0", "-DCMAKE_CXX_FLAGS_RELEASE=-O0")
TOOLCHAIN = """
file(APPEND "{told}" "${{ANDROID_ABI}} ${{ANDROID_PLATFORM}} ${{ANDROID_STL}} ${{GGML_NATIVE}} ${{CMAKE_CXX_FLAGS}}\\n")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER "{bin}/aarch64-linux-android26-clang")
set(CMAKE_CXX_COMPILER "{bin}/aarch64-linux-android26-clang++")
set(CMAKE_AR "{bin}/llvm-ar")
set(CMAKE_RANLIB "{bin}/llvm-ranlib")
"""


def ndk_shaped(folder: Path, *, works: bool = True) -> Path:
    """A folder with the files of an NDK that melt looks at; its compilers are zig, for Linux with musl."""
    bin_folder = folder / BIN
    bin_folder.mkdir(parents=True)
    (folder / "build" / "cmake").mkdir(parents=True)
    (folder / "build/cmake/android.toolchain.cmake").write_text(TOOLCHAIN.format(told=folder / "told", bin=bin_folder))
    (folder / "source.properties").write_text("Pkg.Desc = zig in the shape of an NDK\nPkg.Revision = 0.0.0\n")
    target = ["-target", "aarch64-linux-musl", "-mcpu=generic", "-g0"]
    tools = {
        "aarch64-linux-android26-clang": ["cc", *target],
        "aarch64-linux-android26-clang++": ["c++", *target],
        "llvm-ar": ["ar"],
        "llvm-ranlib": ["ranlib"],
    }
    for name, words in tools.items():
        command = shlex.join([sys.executable, "-m", "ziglang", *words]) if works else "echo 'error: broken' >&2; false"
        # zig calls a processor by -mcpu and takes no -march
        text = f'#!/bin/sh\nfor a do shift; case $a in -march=*) ;; *) set -- "$@" "$a";; esac; done\n{command} "$@"\n'
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    return folder


def a_level() -> native.Level:
    return native.named_level("armv8.2-a+dotprod+fp16")


def test_a_folder_that_is_no_ndk_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^{tmp_path} is no Android NDK: it has no build/cmake/android\.toolchain"):
        build_with_ndk(tmp_path, a_level())


def test_an_ndk_without_the_compiler_is_told(tmp_path: Path) -> None:
    ndk = ndk_shaped(tmp_path / "ndk")
    (ndk / BIN / "aarch64-linux-android26-clang++").unlink()
    with pytest.raises(UsageError, match=r"has no toolchains/.*/aarch64-linux-android26-clang\+\+: install release"):
        build_with_ndk(ndk, a_level())


def test_words_for_cmake_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cmake-arg 'GGML_VULKAN' is not of the form"):
        build_with_ndk(tmp_path, a_level(), ("GGML_VULKAN",))


@pytest.mark.peer
def test_a_compiler_that_fails_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready()
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache(tmp_path)))
    with pytest.raises(UsageError, match=r"^llama_runner does not compile with the NDK .*ndk: [^\n]*$"):
        build_with_ndk(ndk_shaped(tmp_path / "ndk", works=False), a_level())


@pytest.mark.peer
def test_a_runner_is_made_with_the_compilers_and_the_words_of_an_ndk(tmp_path: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("a build in the way of an NDK is NOT tested: ziglang is missing, which takes its place")
    ready()
    ndk = ndk_shaped(tmp_path / "ndk")
    argv = [sys.executable, "-m", "melt", "build", "llama.cpp", "--ndk", str(ndk), "--level", a_level().name]
    argv += [f"--cmake-arg={word}" for word in QUICK]
    environment = {**os.environ, "XDG_CACHE_HOME": str(own_cache(tmp_path))}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    assert "unproven" in done.stdout
    assert (
        "compiling llama.cpp for Android, armv8.2-a+dotprod+fp16, with aarch64-linux-android26-clang++" in done.stderr
    )
    # cmake's own small tests read the file once more, without the words
    told = {line for line in (ndk / "told").read_text().splitlines() if line.strip()}
    assert told == {"arm64-v8a android-26 c++_static OFF -march=armv8.2-a+dotprod+fp16"}
    (program,) = (tmp_path / "cache" / "melt" / "native").glob("*/llama_runner")
    assert program.read_bytes()[18:20] == b"\xb7\x00", "for aarch64"
    assert list((tmp_path / "cache" / "melt" / "llama.cpp").glob("build-*/*.ninja")) == []
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is not None:
        said = subprocess.run([qemu, program, "--try"], capture_output=True, text=True, timeout=300, check=True).stdout
        assert said.startswith(f"llama.cpp {native.llama_source().commit} for {a_level().name}\n")
    again = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert "compiling" not in again.stderr


def ready() -> None:
    for program in ("cmake", "ninja"):
        if shutil.which(program) is None and shutil.which(program, path=str(Path(sys.executable).parent)) is None:
            pytest.skip(f"a build in the way of an NDK is NOT tested: there is no {program}")
    try:
        native.llama_source()
    except MeltError as error:
        pytest.skip(f"a build in the way of an NDK is NOT tested: {error}")


def own_cache(folder: Path) -> Path:
    """A cache that has llama.cpp's source and nothing else of melt's."""
    inside = folder / "cache" / "melt" / "llama.cpp"
    inside.mkdir(parents=True)
    source = native.llama_source().path
    (inside / source.name).symlink_to(source)
    zig = folder / "cache" / "zig"
    if (cache_dir().parent / "zig").is_dir():  # zig's own libraries take it minutes
        zig.symlink_to(cache_dir().parent / "zig")
    return folder / "cache"
