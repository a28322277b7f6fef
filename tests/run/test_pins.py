"""What a profile wants held becomes files and commands of the device; what cannot be held is told with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from melt.device import open_device
from melt.device.root import Root
from melt.errors import DeviceError
from melt.files.lab import LabDevice
from melt.files.profile import Profile
from melt.job import User
from melt.records import Event
from melt.run.pins import Pins, find_pins, held_clocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from melt.device import Device

pytestmark = pytest.mark.peer

CPUFREQ = "/sys/devices/system/cpu/cpufreq"
WHY = "no root: nobody may"


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A board's files: two kinds of cores, of which the second lists no clocks."""
    root = tmp_path / "board"
    clocks = {"policy0": ("300000 900000 1200000 1800000\n", "1800000"), "policy4": (None, "2400000")}
    for policy, (listed, highest) in clocks.items():
        folder = root / CPUFREQ[1:] / policy
        folder.mkdir(parents=True)
        files = {
            "scaling_governor": "schedutil",
            "scaling_available_frequencies": listed,
            "cpuinfo_min_freq": "300000",
            "cpuinfo_max_freq": highest,
            "scaling_min_freq": "300000",
            "scaling_max_freq": highest,
        }
        for name, text in files.items():
            if text is not None:
                (folder / name).write_text(f"{text.strip()}\n")
    return root


@pytest.fixture
def pins(board: Path, tmp_path: Path) -> Iterator[Callable[..., Pins]]:
    """Asks what of a `pin` is to be held on the board; `profile` are other keys of its profile."""
    opened: list[Device] = []

    def ask(pin: dict[str, Any], find_root: Callable[[], Any] = lambda: (None, WHY), **profile: Any) -> Pins:
        spec = LabDevice(profile="p", address="local:", workdir=str(tmp_path / "work"), sysroot=str(board))
        known = Profile.model_validate({"name": "p", "pin": pin, **profile})
        opened.append(open_device("board", spec, known))
        return find_pins(opened[-1], find_root)

    yield ask
    for device in opened:
        device.close()


def never() -> tuple[None, str]:
    raise AssertionError("nobody needs root for this")


def in_policy(number: int, **files: str) -> dict[str, str]:
    return {f"{CPUFREQ}/policy{number}/{name}": value for name, value in files.items()}


def test_a_profile_that_holds_nothing_asks_nothing(pins: Callable[..., Pins]) -> None:
    assert pins({}, never) == Pins()


def test_a_governor_is_held_by_every_policy(pins: Callable[..., Pins]) -> None:
    found = pins({"governor": "performance"}, never)
    assert dict(found.files) == in_policy(0, scaling_governor="performance") | in_policy(
        4, scaling_governor="performance"
    )
    assert (found.refused, found.root, found.user) == ((), None, None)


@pytest.mark.parametrize(
    ("asked", "small", "big"),
    [
        ("max", 1800000, 2400000),
        (1800000000, 1800000, 1800000),
        (1799999999, 1200000, 1799999),
        (9000000000, 1800000, 2400000),
        (300000000, 300000, 300000),
    ],
)
def test_a_clock_is_the_nearest_that_the_policy_has_and_not_above(
    pins: Callable[..., Pins], asked: object, small: int, big: int
) -> None:
    found = dict(pins({"cpu_hz": asked}).files)
    assert found == in_policy(0, scaling_max_freq=str(small), scaling_min_freq=str(small)) | in_policy(
        4, scaling_max_freq=str(big), scaling_min_freq=str(big)
    )


def test_a_clock_below_the_lowest_is_refused_and_not_raised(pins: Callable[..., Pins]) -> None:
    found = pins({"cpu_hz": 299_999_999})
    assert found.files == ()
    assert [(what, value) for what, value, _ in found.refused] == [
        (f"{CPUFREQ}/policy{n}/cpuinfo_max_freq", "299999999") for n in (0, 4)
    ]
    assert "no clock at or below 299999999 Hz: its lowest is 300000000 Hz" in found.refused[0][2]


def test_files_are_found_by_pattern_and_one_that_is_not_there_is_told(pins: Callable[..., Pins], board: Path) -> None:
    for name in ("a.gpu", "b.gpu"):
        (board / "sys/class/devfreq" / name).mkdir(parents=True)
        (board / "sys/class/devfreq" / name / "min_freq").write_text("1\n")
    glob, absent = "/sys/class/devfreq/*.gpu/min_freq", "/sys/class/no/such"
    found = pins({"files": {glob: "5", absent: "1"}}, never)
    assert dict(found.files) == {f"/sys/class/devfreq/{name}.gpu/min_freq": "5" for name in ("a", "b")}
    assert found.refused == ((absent, "1", "no file matches it"),)


def test_a_board_whose_files_lie_in_a_folder_never_touches_this_computer_s_own(pins: Callable[..., Pins]) -> None:
    found = pins({"files": {"/proc/sys/vm/swappiness": "1"}}, never)
    assert found.files == ()
    assert found.refused[0][:2] == ("/proc/sys/vm/swappiness", "1")


def test_a_device_without_such_a_clock_says_so(pins: Callable[..., Pins], board: Path) -> None:
    (board / CPUFREQ[1:]).rename(board / "gone")
    refused = pins({"governor": "performance", "cpu_hz": "max"}, never).refused
    assert [(what, value) for what, value, _ in refused] == [("governor", "performance"), ("cpu_hz", "max")]
    assert all("no file matches /sys/" in why for _, _, why in refused)


def test_a_power_mode_comes_before_the_commands_and_its_number_is_the_profile_s(pins: Callable[..., Pins]) -> None:
    command = {"read": ["r"], "set": ["s"], "restore": ["back", "{old}"], "expect": "on"}
    found = pins(
        {"power_mode": "MAXN", "commands": {"fan": command}}, lambda: (Root(()), ""), power_modes={"15W": 2, "MAXN": 0}
    )
    mode, fan = found.holds
    assert (mode.value, tuple(mode.set), tuple(mode.restore), tuple(mode.read)) == (
        "0",
        ("nvpmodel", "-m", "0"),
        ("nvpmodel", "-m", "{old}"),
        ("nvpmodel", "-q"),
    )
    assert (fan.name, fan.value, tuple(fan.restore)) == ("fan", "on", ("back", "{old}"))


def test_a_power_mode_that_the_profile_does_not_know_is_told(pins: Callable[..., Pins]) -> None:
    found = pins({"power_mode": "25W"}, never, power_modes={"15W": 2})
    assert found.holds == ()
    assert found.refused[0][:2] == ("power_mode", "25W")
    assert "key 'power_modes' has 15W" in found.refused[0][2]


def test_only_a_phone_is_kept_awake_by_something_that_is_set(pins: Callable[..., Pins]) -> None:
    assert pins({"awake": True}, never) == Pins()
    (held,) = pins({"awake": True}, never, platform="android").holds
    assert held.name == "awake"


def test_as_many_values_as_the_agent_holds_and_not_one_more(pins: Callable[..., Pins], board: Path) -> None:
    for i in range(1024):
        (board / "sys" / "many").mkdir(exist_ok=True)
        (board / "sys" / "many" / f"f{i}").write_text("1\n")
    assert len(pins({"files": {"/sys/many/*": "2"}}).files) == 1024
    with pytest.raises(
        DeviceError, match=r"board: key 'pin' of profile p holds 1026 values there, and 1024 is the most"
    ):
        pins({"governor": "performance", "files": {"/sys/many/*": "2"}})


def test_clocks_that_were_held_are_told_by_the_channel_of_the_clock() -> None:
    def made(ev: str, path: str, got: str, *, ok: bool = True) -> Event:
        return Event(t=1, ev=ev, path=path, got=got, ok=ok)

    events = [
        made("agent.set", f"{CPUFREQ}/policy0/scaling_max_freq", "1800000"),
        made("agent.set", f"{CPUFREQ}/policy0/scaling_min_freq", "1800000"),
        made("agent.set", f"{CPUFREQ}/policy4/scaling_max_freq", "2400000"),
        made("agent.set", f"{CPUFREQ}/policy4/scaling_min_freq", "300000"),
        made("agent.set", f"{CPUFREQ}/policy7/scaling_max_freq", "3000000"),
        made("agent.set", f"{CPUFREQ}/policy7/scaling_min_freq", "3000000", ok=False),
        made("agent.restore", f"{CPUFREQ}/policy4/scaling_min_freq", "2400000"),
        made("agent.set", "power_mode", "0"),
        made("agent.set", "/sys/x/policy9/scaling_max_freq", "many"),
    ]
    assert held_clocks(events) == {"cpu.policy0.clock": 1.8e9}


# ------------------------------------------------------------------------------------------- who may


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of the device is an ordinary one, which may write to nothing there."""
    monkeypatch.setattr("melt.run.pins._user", lambda _: User(1000, 1000, (1000, 44)))
    monkeypatch.setattr("melt.run.pins._NOT_WRITABLE", 'printf "%s\\n" "$@"')


@pytest.mark.usefixtures("ordinary")
def test_what_needs_root_is_refused_with_how_to_allow_it_and_the_rest_is_held(pins: Callable[..., Pins]) -> None:
    plain = {"read": ["r"], "set": ["s"], "restore": ["back"], "expect": "on"}
    commands = {"plain": plain, "fan": {**plain, "root": True}}
    found = pins({"governor": "performance", "commands": commands, "awake": True}, platform="android")
    assert [hold.name for hold in found.holds] == ["plain", "awake"]
    assert "screen_off_timeout" in found.holds[1].set
    assert {(what, why) for what, _, why in found.refused} == {
        *((f"{CPUFREQ}/policy{n}/scaling_governor", WHY) for n in (0, 4)),
        ("fan", WHY),
    }
    assert (found.files, found.root, found.user) == ((), None, None)


@pytest.mark.usefixtures("ordinary")
def test_with_root_everything_is_held_and_the_engine_stays_the_user_s(pins: Callable[..., Pins]) -> None:
    root = Root(("sudo", "-n"))
    found = pins({"governor": "performance", "awake": True}, lambda: (root, ""), platform="android")
    assert len(found.files) == 2
    assert found.refused == ()
    assert (found.root, found.user) == (root, User(1000, 1000, (1000, 44)))
    assert any("wake_lock" in word for word in found.holds[0].set)


@pytest.mark.usefixtures("ordinary")
def test_nobody_asks_for_root_to_keep_a_phone_awake_alone(pins: Callable[..., Pins]) -> None:
    found = pins({"awake": True}, never, platform="android")
    assert [hold.name for hold in found.holds] == ["awake"]
    assert found.root is None
