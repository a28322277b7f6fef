"""What a run takes beside what was asked for: everything melt does around the engine, on this computer.

Over a transport the device is this computer again, behind a real server, reached as a person's configuration says.

The workload is the demo's MobileNetV3-L: 50 MB of model, library and program to be found delivered, and the few
hundred events that such a run leaves. A toy model would leave 200,000 a second, and the figure would be that of
reading them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness import Figure, Round
from benchmarks.ort import WORKLOAD
from benchmarks.peers import adbd, environment, sshd
from benchmarks.session import one_run
from melt.analysis.events import first_t
from melt.errors import DeviceError
from melt.places import cache_dir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.records import Event

PROTOCOL = {"warmup_s": 0.1, "warmup_n": 3, "min_s": 0.5, "min_n": 11}
_ROUNDS = 7
_FAR_ROUNDS = 5


def run_overhead_s(this: Round, address: str = "local:") -> float:
    """Wall of the worker's run − idle window − (the engine process from its start to its end, as the agent saw them).

    In it: precheck, finding what is delivered, start, the agent's lead, noticing the end, collect, metrics, the
    check of the outputs, writing and syncing the run folder, tidying the device.
    """
    carried = one_run(this.folder, WORKLOAD, PROTOCOL, address)
    events = carried.run.events().landmarks
    engine_s = _between(events, "agent.engine.start", "agent.engine.end")
    if engine_s is None:
        raise DeviceError("the agent did not say when the engine began and ended")
    idle_s = _between(events, "agent.idle.begin", "agent.idle.end") or 0.0
    return carried.wall_s - engine_s - idle_s


def over_ssh_s(this: Round) -> float:
    """The same over SSH, everything delivered before."""
    with sshd(this.folder / "peer") as server:
        home = this.folder / "home"
        (home / ".ssh").mkdir(parents=True, exist_ok=True)
        lines = ("Host board", "HostName 127.0.0.1", f"Port {server.port}", f"IdentityFile {server.identity}")
        config = "\n".join((*lines, f"UserKnownHostsFile {server.known_hosts}\n"))
        (home / ".ssh" / "config").write_text(config, encoding="utf-8")
        # what is compiled and fetched once is not to be again for another home
        with environment(HOME=str(home), XDG_CACHE_HOME=str(cache_dir().parent)):
            return _warm_s(this, "ssh://board")


def over_adb_s(this: Round) -> float:
    """The same through an adb server, everything delivered before."""
    with adbd(this.folder / "peer") as peers, environment(ANDROID_ADB_SERVER_PORT=str(peers.server.place.port)):
        return _warm_s(this, f"adb://{peers.daemon.serial}")


def _warm_s(this: Round, address: str) -> float:
    if not this.number:
        run_overhead_s(this, address)
    return run_overhead_s(this, address)


def _between(events: Sequence[Event], begin: str, end: str) -> float | None:
    begun, ended = first_t(events, begin), first_t(events, end)
    return None if begun is None or ended is None else (ended - begun) * 1e-9


RUN_OVERHEADS = (
    Figure("run_overhead_local_s", "s", (None, 1.0), _ROUNDS, run_overhead_s),
    Figure("run_overhead_ssh_s", "s", (None, 2.0), _FAR_ROUNDS, over_ssh_s),
    Figure("run_overhead_adb_s", "s", (None, 2.0), _FAR_ROUNDS, over_adb_s),
)
