"""How long a peer can be frozen before melt says that it is lost, whatever is under way.

The processes that serve the connections are stopped by a signal: the kernel goes on taking bytes for them and keeps
every connection open, which is how a device looks that hangs, or whose network has gone without a word.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Figure, Round
from benchmarks.peers import WAYS, peer
from melt.errors import DeviceError, TransportError
from melt.transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.peers import Peer
    from melt.transport import Transport

_ENDLESS_BYTES = 16 << 30
"""Of a file that is one hole: nobody has copied it before the freeze."""
_BEGIN_S = 30.0
_LIMIT_S = 60.0
"""Whoever is ended by this limit has noticed nothing: it is far beyond the target."""
_ROUNDS = 3


@dataclass(frozen=True)
class Scene:
    """Where a state takes place."""

    here: Peer
    transport: Transport
    """A connection of this state's own, made before the freeze."""
    folder: Path
    endless: Path
    frozen: threading.Event

    @property
    def silent(self) -> list[str]:
        """A command that says one word and then nothing."""
        return ["sh", "-c", 'echo begun | tee "$1/begun"; exec sleep 120', "sh", str(self.folder)]


def connecting(scene: Scene) -> None:
    scene.frozen.wait()
    scene.here.connect().close()


def idle(scene: Scene) -> None:
    scene.frozen.wait()
    scene.transport.run(["true"], deadline=Deadline.after(_LIMIT_S))


def command(scene: Scene) -> None:
    scene.transport.run(scene.silent, deadline=Deadline.after(_LIMIT_S))


def stream(scene: Scene) -> None:
    with contextlib.closing(scene.transport.start(scene.silent)) as process:
        deadline = Deadline.after(_LIMIT_S)
        while process.read(deadline):
            pass


def push(scene: Scene) -> None:
    scene.transport.push(scene.endless, f"{scene.folder}/target", deadline=Deadline.after(_LIMIT_S))


def pull(scene: Scene) -> None:
    target, deadline = scene.folder / "target", Deadline.after(_LIMIT_S)
    scene.transport.pull(str(scene.endless), target, deadline=deadline, limit_bytes=_ENDLESS_BYTES)


STATES: Mapping[Callable[[Scene], None], str | None] = {
    connecting: None,
    idle: None,
    command: "begun",
    stream: "begun",
    push: ".*.part",
    pull: ".*.part",
}
"""Each with the file that shows that it is under way, if it begins before the freeze."""


def dead_peer_s(this: Round) -> float:
    """From the freeze to the error, the longest of all states and ways; every state has a connection of its own."""
    with tempfile.TemporaryDirectory(dir=this.folder) as made, ThreadPoolExecutor(len(WAYS)) as pool:
        took_s = pool.map(lambda way: noticed_s(way, Path(made) / way), WAYS)
        return max(longest for by_state in took_s for longest in by_state.values())


def noticed_s(way: str, folder: Path) -> dict[str, float]:
    """By state, how long it took; all of them are under way when the peer freezes. Raises DeviceError."""
    folder.mkdir()
    endless, frozen = folder / "endless", threading.Event()
    with endless.open("wb") as file:
        file.truncate(_ENDLESS_BYTES)
    with (
        peer(way, folder / "peer") as here,
        contextlib.ExitStack() as connections,
        ThreadPoolExecutor(len(STATES)) as pool,
    ):
        ends = {}
        for state in STATES:
            (folder / state.__name__).mkdir()
            transport = connections.enter_context(contextlib.closing(here.connect()))
            scene = Scene(here, transport, folder / state.__name__, endless, frozen)
            ends[state.__name__] = pool.submit(_lost_at, state, scene, way)
        try:
            for state, sign in STATES.items():
                _wait_for(sign, folder / state.__name__, way)
            here.freeze()
        finally:
            frozen_at = time.monotonic()
            frozen.set()
        return {name: end.result() - frozen_at for name, end in ends.items()}


def _lost_at(state: Callable[[Scene], None], scene: Scene, way: str) -> float:
    try:
        state(scene)
    except TransportError:
        return time.monotonic()
    raise DeviceError(f"{state.__name__} over {way} went on as if its peer were not frozen")


def _wait_for(sign: str | None, folder: Path, way: str) -> None:
    deadline = Deadline.after(_BEGIN_S)
    while sign is not None and not any(path.stat().st_size for path in folder.glob(sign)):
        if not deadline.left_s:
            raise DeviceError(f"{folder.name} over {way} did not begin within {_BEGIN_S:.0f} s")
        time.sleep(0.01)


DEAD_PEER = Figure("dead_peer_s", "s", (None, 15.0), _ROUNDS, dead_peer_s)
