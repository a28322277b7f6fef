"""Every transport that the contract suite holds to its promises; a new one joins by a line in `TRANSPORTS`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from adbd import ADB_WAYS, AdbPeers, Daemon
from fakepi import FakePi, start_fake_pi
from peers import TRANSPORTS, Peer
from sshd import Sshd, start_sshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = start_sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def adb_peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbPeers]:
    peers = AdbPeers(tmp_path_factory.mktemp("adb"))
    yield peers
    peers.close()


@pytest.fixture(scope="session")
def pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakePi]:
    made = start_fake_pi(tmp_path_factory.mktemp("pi"))
    yield made
    made.close()


@pytest.fixture
def own_daemon(adb_peers: AdbPeers, tmp_path: Path) -> Iterator[Daemon]:
    """An adb daemon that a test may freeze and kill."""
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.close()
    adb_peers.server.forget(daemon)


@pytest.fixture(params=[*sorted(TRANSPORTS), "ssh", *ADB_WAYS])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    made = request.param
    if made in ADB_WAYS:
        transport = request.getfixturevalue("adb_peers").connect(made)
    else:
        transport = request.getfixturevalue("sshd").connect() if made == "ssh" else TRANSPORTS[made]()
    folder = tmp_path / "device"
    folder.mkdir()
    yield Peer(transport, str(folder))
    transport.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What became of every fault of the link, as a table: a row for each fault and way, a column for each step."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "link fault":
                    fault, way, step, outcome = json.loads(value)
                    rows.setdefault((fault, way), {})[step] = outcome
    if not rows:
        return
    steps = ("deliver", "start", "watch", "collect")
    terminalreporter.section("faults of the link, in every step, over every transport")
    layout = "{:<22} {:<8}" + " {:<26}" * len(steps)
    terminalreporter.line(layout.format("fault", "way", *steps).rstrip())
    for (fault, way), cells in rows.items():
        shown = (cells.get(step, "–")[:26] for step in steps)
        terminalreporter.line(layout.format(fault, way, *shown).rstrip())
