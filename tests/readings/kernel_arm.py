"""A virtual machine with an Arm processor, Debian's kernel, and its own drivers of power monitors and batteries.

Debian builds neither those of power monitors, nor `i2c-stub`, a bus whose chips are registers to be set, nor
`test_power`, a battery and chargers to be set: they are compiled here from the kernel's source against Debian's
headers, once. The machine's only process (kernel_init.c) follows a plan.
What cannot be made here skips the test, saying loudly what that leaves untested.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest
from debian import SUITE, fetch, unpacked

from melt.places import cache_dir

CROSS = "aarch64-linux-gnu-"
DRIVERS = (
    *("drivers/hwmon/ina3221.c", "drivers/hwmon/ina2xx.c", "drivers/i2c/i2c-stub.c"),
    "drivers/power/supply/test_power.c",
)
_PACKAGES = ("linux-image-arm64", "linux-headers-arm64")
_LEFT_OUT = (
    *("gcc-14-aarch64-linux-gnu", "cpp-14-aarch64-linux-gnu", "binutils-aarch64-linux-gnu", "libgcc-14-dev"),
    *("libbinutils", "libc6", "libstdc++6", "coreutils", "systemd", "libsystemd-shared", "udev", "libssl3t64"),
    *("libasan8", "libhwasan0", "liblsan0", "libtsan2", "libubsan1", "openssl-provider-legacy"),
)
"""Large, and of no use to a kernel and its headers."""
_WHAT = "the kernel's own files of a power monitor and a battery are"
_INIT = Path(__file__).with_name("kernel_init.c")
_BUILD_S = 300
_BOOT_S = 240


def _without(reason: str) -> NoReturn:
    pytest.skip(f"{_WHAT} NOT tested: {reason}")


def run(plan: str, folder: Path) -> str:
    """What the machine printed on its console while it followed `plan`; `folder` is an empty one to work in."""
    emulator, kernel = _emulator(), _kernel()
    argv = [f"{CROSS}gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", folder / "init", _INIT]
    subprocess.run(argv, check=True, timeout=_BUILD_S)
    files = {f"{path.stem}.ko": path.read_bytes() for path in sorted(kernel.glob("*.ko"))}
    initrd = folder / "initrd"
    initrd.write_bytes(_archive({"init": (folder / "init").read_bytes(), "plan": plan.encode(), **files}))
    machine = ["-M", "virt", "-cpu", "cortex-a72", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot"]
    console = ["-serial", "stdio", "-append", "console=ttyAMA0 quiet panic=-1"]
    done = subprocess.run(
        [*emulator, *machine, *console, "-kernel", kernel / "vmlinuz", "-initrd", initrd],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_BOOT_S,
        check=False,
    )
    said = done.stdout.decode(errors="replace").replace("\r\n", "\n")
    assert done.returncode == 0, f"{done.stderr.decode(errors='replace')[-500:]}\n{said[-2000:]}"
    return said


def _emulator() -> list[str | Path]:
    if platform.machine() != "x86_64":
        _without(f"the path names here are those of x86_64, and this is {platform.machine()}")
    files = unpacked("qemu-system-arm", _WHAT, with_all_it_needs=True)
    libraries = files / "usr/lib/x86_64-linux-gnu"
    path = f"{libraries}:{libraries / 'pulseaudio'}"
    loader = [libraries / "ld-linux-x86-64.so.2", "--library-path", path]
    return [*loader, files / "usr/bin/qemu-system-aarch64", "-L", files / "usr/share/qemu"]


def _archive(files: dict[str, bytes]) -> bytes:
    """The files as a cpio archive (newc, Linux's driver-api/early-userspace/buffer-format.rst), and a console."""
    entries = [(name, 0o100755, data, (0, 0)) for name, data in files.items()]
    entries += [("dev", 0o40755, b"", (0, 0)), ("dev/console", 0o20600, b"", (5, 1)), ("TRAILER!!!", 0, b"", (0, 0))]
    packed = bytearray()
    for number, (name, mode, data, device) in enumerate(entries, 1):
        told = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(told), 0)
        packed += b"070701" + b"".join(b"%08x" % field for field in fields) + told
        packed += bytes(-len(packed) % 4) + data
        packed += bytes(-len(packed) % 4)
    return bytes(packed)


# ------------------------------------------------------------------------------------ made once and kept


def _kernel() -> Path:
    """A folder with `vmlinuz` and the drivers."""
    for program in (f"{CROSS}gcc", "make", "apt-get", "dpkg"):
        if shutil.which(program) is None:
            _without(f"this machine has no {program}")
    recipe = "\n".join((*_PACKAGES, *DRIVERS, Path(__file__).read_text(encoding="utf-8").rpartition("# ---")[2]))
    peers = cache_dir() / "peers"
    kept = peers / f"arm64-kernel-{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not kept.is_dir():
        peers.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=peers, ignore_cleanup_errors=True) as made:
            part = Path(made) / "part"
            part.mkdir()
            try:
                _make(Path(made), part)
            except subprocess.TimeoutExpired as error:
                _without(str(error))
            with contextlib.suppress(OSError):  # someone else was faster
                part.rename(kept)
    return kept


def _make(work: Path, part: Path) -> None:
    arm, here, source = (work / name for name in ("arm", "here", "source"))
    for folder in (arm, here, source):
        folder.mkdir()
    fetch(_PACKAGES, arm, _WHAT, with_all_they_need=True, architecture="arm64", left_out=_LEFT_OUT)
    (image,) = (arm / "boot").glob("vmlinuz-*-arm64")
    image.rename(part / "vmlinuz")
    release = image.name.removeprefix("vmlinuz-").removesuffix("-arm64")
    series = ".".join(release.split(".")[:2])
    fetch((f"linux-kbuild-{release}", f"linux-source-{series}"), here, _WHAT, with_all_they_need=False)
    (packed,) = (arm / "usr/lib/modules").rglob("i2c-dev.ko.xz")
    (part / "i2c-dev.ko").write_bytes(lzma.decompress(packed.read_bytes()))
    with tarfile.open(here / f"usr/src/linux-source-{series}.tar.xz") as archive:
        for driver in DRIVERS:
            held = archive.extractfile(f"linux-source-{series}/{driver}")
            assert held is not None
            (source / Path(driver).name).write_bytes(held.read())
    names = [Path(driver).stem for driver in DRIVERS]
    (source / "Makefile").write_text(f"obj-m := {' '.join(f'{name}.o' for name in names)}\n")
    headers = _usable_headers(arm, here / f"usr/lib/linux-kbuild-{release}")
    done = subprocess.run(
        ["make", "-C", headers, f"M={source}", "ARCH=arm64", f"CC={CROSS}gcc", "modules"],
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )
    if done.returncode:
        _without(f"its drivers do not compile: {' '.join(done.stderr.split())[-400:]}")
    for name in names:
        (source / f"{name}.ko").rename(part / f"{name}.ko")


def _usable_headers(arm: Path, tools: Path) -> Path:
    """Debian's headers where they lie, for this machine's compiler; their own tools bring their libraries with them."""
    sources = arm / "usr/src"
    (common,) = sources.glob("linux-headers-*-common")
    (headers,) = sources.glob("linux-headers-*-arm64")
    for folder in (common, headers):
        for name in ("scripts", "tools"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(tools / name)
    (headers / "Makefile").write_text(f"include {common}/Makefile\n")
    (headers / "vmlinux").unlink(missing_ok=True)  # or it would want the types of every structure in it
    # a word for compilers newer than this machine's may be
    settings = headers / "include/config/auto.conf"
    lines = settings.read_text().splitlines(keepends=True)
    settings.write_text("".join(line for line in lines if "CC_HAS_MIN_FUNCTION_ALIGNMENT" not in line))
    libraries = unpacked("qemu-system-arm", _WHAT, with_all_it_needs=True) / "usr/lib/x86_64-linux-gnu"
    loader = f"{libraries}/ld-linux-x86-64.so.2 --library-path {libraries}"
    modpost = tools / "scripts/mod/modpost"
    modpost.unlink()
    modpost.write_text(f'#!/bin/sh\nexec {loader} {modpost}.real-lsb-64 "$@"\n')
    modpost.chmod(0o755)
    return headers
