"""What only this computer's own transport has to see to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from melt.errors import TransportTimeout

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peer

OTHER_GROUP = """
import os, sys, time
if os.fork() == 0:
    os.setpgid(0, 0)
    if os.fork():
        os._exit(0)
    print(os.getpid(), os.getpgid(0), os.getsid(0), flush=True)
    time.sleep(600)
time.sleep(600)
"""


def test_a_deadline_ends_what_left_the_group_but_not_the_session(peer: Peer) -> None:
    with pytest.raises(TransportTimeout) as caught:
        peer.run(sys.executable, "-S", "-c", OTHER_GROUP, limit_s=1.0)
    pid, group, session = map(int, caught.value.stdout.split())
    assert group != session
    assert peer.gone(pid)


def test_a_script_without_an_interpreter_is_missing(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    peer.push(tmp_path / "script", f"{peer.folder}/script", executable=True)
    assert peer.run(f"{peer.folder}/script").code == 127
