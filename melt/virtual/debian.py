"""Packages of Debian 13 beside this system: fetched and unpacked into melt's cache, the system's own left alone.

apt gets a configuration of its own, made from this computer's source list with the suite's name replaced. Whatever
cannot be had is a DeviceError that says why.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from melt.errors import DeviceError
from melt.places import cache_folder
from melt.virtual.process import run

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE = "trixie"
_LIMIT_S = 180


def unpacked(package: str, *, with_all_it_needs: bool = False) -> Path:
    """The folder that a package is unpacked in, fetched once. Raises DeviceError."""
    peers = cache_folder("peers")
    kept = peers / f"{package}-{SUITE}"
    if kept.is_dir():
        return kept
    with tempfile.TemporaryDirectory(dir=peers, ignore_cleanup_errors=True) as made:
        part = Path(made) / "part"
        part.mkdir()
        fetch((package,), part, with_all_they_need=with_all_it_needs)
        with contextlib.suppress(OSError):  # someone else was faster
            part.rename(kept)
    return kept


def _sources() -> str:
    """This computer's own Debian sources with the suite replaced."""
    release = platform.freedesktop_os_release()
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not codename:
        raise DeviceError(f"it comes from Debian's archive, and this is {release.get('ID')}")
    stanzas: list[str] = []
    for file in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            suites = re.search(r"(?m)^Suites:(.*)$", stanza)
            if suites and codename in suites[1].split() and re.search(r"(?m)^Types:.*\bdeb\b", stanza):
                stanzas.append(re.sub(r"(?m)^Suites:.*$", f"Suites: {SUITE}", stanza))
    one_line = re.compile(rf"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+{re.escape(codename)}\s+main\b")
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.list"))]:
        for line in file.read_text().splitlines() if file.is_file() else ():
            if found := one_line.match(line):
                signed = re.search(r"signed-by=(\S+)", found[1] or "")
                key = f"Signed-By: {signed[1]}\n" if signed else ""
                stanzas.append(f"Types: deb\nURIs: {found[2]}\nSuites: {SUITE}\nComponents: main\n{key}")
    if not stanzas:
        raise DeviceError(f"the source list names no {codename} main to take the archive from")
    return "\n\n".join(stanzas)


def fetch(
    packages: Sequence[str],
    into: Path,
    *,
    with_all_they_need: bool,
    architecture: str = "",
    left_out: Sequence[str] = (),
) -> None:
    """Unpacks the packages below `into`, with apt's whole state in a folder of this function's own.

    For this computer's `architecture` unless another is named; `left_out` are needed ones to do without. Raises
    DeviceError.
    """
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise DeviceError(f"this computer has no {program}")
    work = into / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial", "packages"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "own.sources").write_text(_sources())
    settings: dict[str, object] = {
        "Dir::Etc::sourcelist": work / "own.sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": work / "state",
        "Dir::State::lists": work / "state/lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    if architecture:
        settings |= {"APT::Architecture": architecture, "APT::Architectures": architecture}
    (work / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C"}

    def apt(*words: str) -> str:
        return run(["apt-get", *words], cwd=work / "packages", env=environment, limit_s=_LIMIT_S)

    apt("update")
    names = list(packages)
    if with_all_they_need:
        names = re.findall(r"(?m)^Inst (\S+)", apt("-s", "install", "--no-install-recommends", *packages))
    apt("download", *(name for name in names if name not in left_out))
    archives = sorted((work / "packages").glob("*.deb"), key=lambda path: (path.name[:10] != "base-files", path.name))
    for archive in archives:  # base-files brings the links /bin, /lib and /sbin that others unpack through
        run(["dpkg", "-x", archive, into], cwd=work)
    shutil.rmtree(work)
