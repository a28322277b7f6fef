"""A virtual Pi whose programs are Arm's: the physics of a virtual board, and a fake Pi that sees its files.

The board's process runs on this computer; its folder is mounted into the Pi at `THERE`, and its programs where whoever
logs in there finds them. `python arm64_board.py FOLDER KIND JOBS` is that process, until its stdin ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest
from fakepi import FakePi, start_fake_pi
from workspace import until

from melt.files import Lab, LabDevice
from melt.places import package_dir, shipped
from melt.virtual import process
from melt.virtual.board import BoardFile, Running, live
from melt.virtual.kinds import KINDS, Kind
from melt.virtual.lab import profiles
from melt.virtual.stubs import write_stubs

if TYPE_CHECKING:
    from collections.abc import Iterator

THERE = PurePosixPath("/home/pi/board")
_PROGRAMS = PurePosixPath("/usr/games")
"""On the PATH of whoever logs in, and empty."""
_MOUNT = 'mkdir "$2$3" && mount --bind "$1" "$2$3" && mount --bind "$1/programs" "$2$4"'


@contextlib.contextmanager
def arm64_lab(folder: Path, name: str) -> Iterator[Lab]:
    """A lab with the kind of board called `name`, in `folder`/`name`, on a Pi of its own; both end with the block.

    What this computer lacks for it skips the test.
    """
    if shutil.which("nsenter") is None:
        pytest.skip("a virtual board with another processor is NOT tested: this computer has no nsenter")
    kind, board = KINDS[name], folder / name
    board.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        pi = start_fake_pi(folder / "machine")
        stack.callback(pi.close)
        stack.callback(process.end, _begin(board, kind, pi))
        until((board / "ready").exists, "the board's files", 60)
        _mount(board, kind, pi)
        device = LabDevice(
            profile=kind.profile,
            address=f"ssh://pi?config={pi.config}",
            workdir=str(THERE / "work"),
            tags=("virtual",),
            sysroot=str(THERE / "sysroot"),
            simulated=True,
        )
        yield Lab({name: device}, (profiles(), shipped("device_profiles")))


def _begin(board: Path, kind: Kind, pi: FakePi) -> process.Program:
    # what runs on the Pi has a working folder that only its own namespaces know by the short name
    jobs = pi.folder / "root" / THERE.relative_to("/") / "work" / "melt" / "jobs"
    modules = os.pathsep.join((str(package_dir().parent), *filter(None, sys.path)))
    env = {**os.environ, "PYTHONPATH": modules, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    argv: list[str | Path] = [sys.executable, __file__, board, kind.name, jobs]
    return process.start(argv, cwd=board, log=board / "log", env=env, held=True)


def _mount(board: Path, kind: Kind, pi: FakePi) -> None:
    """Shows the Pi the board's folder, from within its namespaces: nothing of it is seen outside of them."""
    (board / "work").mkdir()
    (board / "work").chmod(0o777)
    write_stubs(kind, board / "programs", Path(THERE / "kept"))
    inside = ["nsenter", "--user", "--mount", "--target", str(pi.processes()[0].pid)]
    argv = [*inside, "sh", "-c", _MOUNT, "sh", board, pi.folder / "root", THERE, _PROGRAMS]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def main(board: Path, name: str, jobs: Path) -> None:
    """The board's process: a server it has already."""
    os.umask(0)  # the person on the Pi may set its clocks
    running = Running(board, BoardFile(kind=name, port=0), jobs)
    for _ in range(2):  # every file is there
        running.step(1e-3)
    (board / "ready").touch()
    live(board, running)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
