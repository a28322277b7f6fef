"""What is done when the link is lost in the middle of a step; the clock is real, the pauses are made short."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from melt.device.line import Line
from melt.errors import DeviceError, Interrupted, TransportError, TransportTimeout
from melt.run import patience
from melt.run.patience import Patience
from melt.transport import Completed, Deadline, LocalTransport
from melt.transport.ssh_hosts import HostChanged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.device import Device


@dataclass
class Away:
    """A device whose link is away for so many tries; it has what `Patience` uses of one."""

    tries: int = 0
    error: TransportError = field(default_factory=lambda: TransportError("no route"))
    name: str = "pi"
    closed: int = 0

    def close(self) -> None:
        self.closed += 1

    def run(self, argv: Sequence[str], limit_s: float) -> Completed:
        assert limit_s > 0
        if self.tries:
            self.tries -= 1
            raise self.error
        return Completed(tuple(argv), 0, b"", b"")


@dataclass
class Steps:
    """A step that fails so many times before it succeeds."""

    failures: int
    error: Exception = field(default_factory=lambda: TransportError("pi: cut"))
    calls: int = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise self.error
        return self.calls


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_S", 0.004)


def patient(device: Away, said: list[str] | None = None, *, cancelled: bool = False) -> Patience:
    return Patience(cast("Device", device), (said if said is not None else []).append, lambda: cancelled)


def test_a_step_that_goes_well_is_carried_out_once_and_told_nowhere() -> None:
    said: list[str] = []
    step, trying = Steps(0), patient(Away(), said)
    assert trying(step, 5) == 1
    assert said == []
    assert trying.told() == {}


def test_a_link_that_comes_back_lets_the_step_begin_again() -> None:
    said: list[str] = []
    device, step = Away(tries=3), Steps(1)
    trying = patient(device, said)
    assert trying(step, 5) == 2
    assert said == ["pi: cut; waiting up to 5 s for it to come back", "pi: the link is back"]
    assert device.closed == 4
    assert trying.told()["link_lost_n"] == 1
    assert trying.told({"link_lost_n": 2, "link_lost_s": 7.0}) == {
        "link_lost_n": 3,
        "link_lost_s": pytest.approx(7.0 + trying.lost_s, abs=0.001),
    }


def test_a_link_that_stays_away_is_given_up_with_the_error_it_was_lost_with() -> None:
    step = Steps(9, TransportTimeout("pi: silent"))
    with pytest.raises(TransportTimeout, match=r"pi: silent; it was away for 0\.05 s"):
        patient(Away(tries=10**9))(step, 0.05)
    assert step.calls == 1


def test_no_patience_is_none() -> None:
    device = Away()
    with pytest.raises(TransportError, match="cut"):
        patient(device)(Steps(1), 0)
    assert device.closed == 0


@pytest.mark.parametrize("error", [DeviceError("full"), HostChanged("another key"), Interrupted("enough")])
def test_what_waiting_does_not_mend_is_raised_at_once(error: Exception) -> None:
    step = Steps(1, error)
    with pytest.raises(type(error)):
        patient(Away())(step, 5)
    assert step.calls == 1


def test_a_key_that_changed_while_the_link_was_away_is_raised() -> None:
    with pytest.raises(HostChanged):
        patient(Away(tries=1, error=HostChanged("another key")))(Steps(1), 5)


def test_a_person_need_not_wait_for_the_link() -> None:
    with pytest.raises(Interrupted):
        patient(Away(tries=10**9), cancelled=True)(Steps(1), 60)


def test_a_link_that_is_lost_again_and_again_is_of_no_use() -> None:
    step = Steps(10**9)
    with pytest.raises(TransportError, match="cut"):
        patient(Away())(step, 5)
    assert step.calls == 21


def test_a_line_is_dialled_when_it_is_needed_and_anew_after_it_was_let_go_of() -> None:
    dialled: list[str] = []

    def dial(address: str) -> LocalTransport:
        dialled.append(address)
        return LocalTransport()

    line = Line("local:", dial)
    assert dialled == []
    for count in (1, 2):
        assert line.run(["true"], deadline=Deadline.after(10)).ok
        assert line.run(["true"], deadline=Deadline.after(10)).ok
        assert len(dialled) == count
        line.close()
        line.close()
