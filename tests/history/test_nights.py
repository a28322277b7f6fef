"""Series of nights: what is one night, in what order they stand, and where a series begins."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from nightly.made_nights import Nights, skipped, spoilt

from melt.history import read
from melt.history.nights import Series, nights, series

if TYPE_CHECKING:
    from pathlib import Path

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


@pytest.fixture
def made(tmp_path: Path) -> Nights:
    return Nights(tmp_path / "results" / "nightly", blocks=3)


def of(made: Nights, metric: str = "latency_p50_s", device: str = "pi5", **about: Any) -> Series:
    """The one series of a metric."""
    (found,) = [one for one in series(read(made.suite), **about) if (one.metric, one.device) == (metric, device)]
    return found


def names(one: Series) -> list[list[str]]:
    return [[session.session for session in night.sessions] for night in one.nights]


def test_a_night_has_a_value_of_each_run_in_order(made: Nights) -> None:
    first, second = made.nights(2, factor=lambda *_: 1.0)
    found = of(made)
    assert names(found) == [[first], [second]]
    assert [len(session.values) for night in found.nights for session in night.sessions] == [3, 3]
    assert (found.unit, found.total, found.notes, found.cut) == ("s", None, (), None)
    assert (found.suite, found.workload, found.cell) == ("nightly", "net", "net")
    in_order = read(made.suite).frame.query("metric == 'latency_p50_s'").sort_values("started_utc")["value"].tolist()
    assert [value for night in found.nights for value in night.sessions[0].values] == in_order


def test_sessions_less_than_twelve_hours_after_the_first_are_the_same_night(made: Nights) -> None:
    first = made.night()
    again, last = made.rerun(hours=6), made.rerun(hours=11.9)
    next_night = made.session(made.begin - DAY + 12 * HOUR)
    assert names(of(made)) == [[first, again, last], [next_night]]
    assert nights(read(made.suite)) == {"nightly": ((first, again, last), (next_night,))}


def test_a_rerun_is_independent_only_after_a_reboot(made: Nights) -> None:
    made.night()
    made.rerun(hours=2)
    made.reboot()
    made.rerun(hours=4)
    made.rerun(hours=6)
    (night,) = of(made).nights
    assert [session.independent for session in night.sessions] == [True, False, True, False]


def test_a_rerun_of_which_no_start_is_known_is_not_independent(made: Nights) -> None:
    made.night()
    made.rerun(change=lambda record: record.update(boot_id=None))
    (night,) = of(made).nights
    assert [session.independent for session in night.sessions] == [True, False]


def test_nor_is_one_where_that_of_the_first_session_is_not_known(made: Nights) -> None:
    made.night(change=lambda record: record.update(boot_id=None))
    made.rerun()
    (night,) = of(made).nights
    assert [session.independent for session in night.sessions] == [True, False]


def test_a_session_that_went_on_over_midnight_is_one_night(made: Nights) -> None:
    made.begin = made.begin.replace(hour=22)
    first = made.night(later=6 * HOUR)
    second = made.night()
    found = of(made)
    assert names(found) == [[first], [second]]
    assert len(found.nights[0].sessions[0].values) == 3


def test_a_night_without_a_usable_value_is_named(made: Nights) -> None:
    made.devices = ("pi5", "orin")
    first = made.night()
    lacking = made.night(devices=["orin"], planned=["pi5", "orin"])
    spoilt_night = made.night(change=lambda record: spoilt(record) if record["device"] == "pi5" else None)
    last = made.night()
    found = of(made)
    assert names(found) == [[first], [last]]
    assert found.notes == (f"no usable value in night {lacking}, {spoilt_night}",)
    assert of(made, device="orin").notes == ()
    tonight = made.night(devices=["orin"])
    assert of(made).notes == (f"no usable value in night {lacking}, {spoilt_night}, {tonight}",)


def test_a_night_that_left_no_run_at_all_is_one_where_it_was_planned(made: Nights) -> None:
    made.night()
    silent = made.night(devices=[], planned=["pi5"])
    made.night()
    assert of(made).notes == ()  # the index has no row of it
    assert of(made, planned={"nightly": [silent]}).notes == (f"no usable value in night {silent}",)


def test_skipped_runs_and_older_records_of_a_planned_run_give_no_value(made: Nights) -> None:
    def change(record: dict[str, Any]) -> None:
        if record["block"] == 0:
            skipped(record)
        if record["block"] == 1:
            record["block"] = 2  # the same planned run as the next one, which is newer

    made.night(change=change)
    assert [len(session.values) for session in of(made).nights[0].sessions] == [1]


def test_another_device_of_the_same_name_begins_a_new_series(made: Nights) -> None:
    made.nights(2)
    begins = made.night(soft={"soc": "Raspberry Pi 5 Model B Rev 1.1"})
    found = of(made)
    assert names(found) == [[begins]]
    assert found.cut is not None
    assert begins in found.cut
    assert "another one: soc changed" in found.cut
    assert "Rev 1.0" in found.cut
    assert "Rev 1.1" in found.cut


def test_a_newer_kernel_and_a_fact_that_is_not_known_do_not(made: Nights) -> None:
    made.night()
    made.night(soft={"kernel": "6.12.1"})
    made.night(soft={"soc": None})
    assert (len(of(made).nights), of(made).cut) == (3, None)


def test_a_hard_key_begins_a_new_series_unless_it_may_vary(made: Nights) -> None:
    made.nights(2)
    begins = made.night(hard={"engine_version": "1.32.0"})
    last = made.night(hard={"engine_version": "1.32.0"})
    found = of(made)
    assert names(found) == [[begins], [last]]
    assert found.cut == f'the series begins in night {begins}, when engine_version changed from "1.31.0" to "1.32.0"'
    assert found.notes == (found.cut,)
    free = of(made, varying=frozenset({"engine_version"}))
    assert (len(free.nights), free.cut) == (4, None)


def test_a_key_that_came_back_does_not_bring_back_what_lay_before(made: Nights) -> None:
    made.night()
    made.night(hard={"threads": 4})
    last = made.night()
    found = of(made)
    assert names(found) == [[last]]
    assert found.cut is not None
    assert "threads changed from 4 to 2" in found.cut


def test_what_only_energy_depends_on_cuts_energy_alone(made: Nights) -> None:
    def with_energy(record: dict[str, Any], channels: str = "gpu + cpu") -> None:
        note = f"boundary module, provenance measured, updates of power integrated: {channels}; refresh 0.1 s"
        record["metrics"]["j_per_inference"] = {"value": 0.06, "note": note}

    made.nights(2, change=with_energy, hard={"energy_total": "module: gpu + cpu"})
    begins = made.night(
        change=lambda record: with_energy(record, "gpu + cpu + ddr"), hard={"energy_total": "module: gpu + cpu + ddr"}
    )
    assert len(of(made).nights) == 3
    energy = of(made, "j_per_inference")
    assert names(energy) == [[begins]]
    assert energy.total == "module: cpu + ddr + gpu"
    assert energy.cut is not None


def test_random_weights_have_an_energy_of_their_own_and_no_latency(made: Nights) -> None:
    def with_energy(record: dict[str, Any]) -> None:
        note = "boundary module, provenance measured, updates of power integrated: gpu; refresh 0.1 s"
        record["metrics"]["j_per_inference"] = {"value": 0.06, "note": note}

    made.night(change=with_energy, hard={"synthetic_model": True})
    begins = made.night(change=with_energy, hard={"synthetic_model": False})
    assert len(of(made).nights) == 2
    assert names(of(made, "j_per_inference")) == [[begins]]


def test_another_total_cuts_even_where_the_fingerprint_does_not_tell(made: Nights) -> None:
    def with_energy(channels: str) -> Any:
        note = f"boundary module, provenance measured, updates of power integrated: {channels}; refresh 0.1 s"
        return lambda record: record["metrics"].update(power_mean_w={"value": 6.0, "note": note})

    made.night(change=with_energy("gpu + cpu"))
    begins = made.night(change=with_energy("gpu"))
    found = of(made, "power_mean_w")
    assert names(found) == [[begins]]
    assert found.cut is not None
    assert 'what the energy is of changed from "module: cpu + gpu" to "module: gpu"' in found.cut


def test_another_version_of_a_metric_begins_a_new_series_of_it(made: Nights) -> None:
    made.night(change=lambda record: record["metrics"]["load_s"].update(version=1))
    begins = made.night(change=lambda record: skipped(record) if record["block"] == 2 else None)
    found = of(made, "load_s")
    assert names(found) == [[begins]]
    assert found.cut is not None
    assert "version changed from 1 to 2: 'melt analyse'" in found.cut
    assert len(of(made).nights) == 2


def test_results_of_others_and_simulated_ones_are_never_mixed_with_real_ones(made: Nights) -> None:
    made.night(change=lambda record: record.update(simulated=True))
    made.night(change=lambda record: record.update(imported={"tool": "llama-bench", "source": "a.json"}))
    last = made.night()
    assert names(of(made)) == [[last]]


def test_where_the_hosts_clock_went_back_the_devices_own_orders_the_nights(made: Nights) -> None:
    first = made.nights(3)
    wrong = made.nights(2, clock_off=-30 * DAY)
    last = made.night()
    found = of(made)
    assert names(found) == [[name] for name in (*first, *wrong, last)]
    (note,) = found.notes
    assert note.startswith("the host's clock went back while pi5 ran on")
    assert all(name in note for name in wrong)
    assert not any(name in note for name in (*first, last))


def test_of_two_halves_that_contradict_each_other_the_later_stamps_are_right(made: Nights) -> None:
    before = made.night()
    made.reboot()
    right = made.nights(2)
    wrong = made.nights(2, clock_off=-30 * DAY)
    found = of(made)
    assert names(found) == [[name] for name in (before, *right, *wrong)]
    assert not any(name in found.notes[0] for name in (before, *right))


def test_a_clock_that_lies_tonight_does_not_hide_the_night(made: Nights) -> None:
    made.nights(3)
    tonight = made.night(clock_off=-400 * DAY)
    assert names(of(made))[-1] == [tonight]
    assert nights(read(made.suite))["nightly"][-1] == (tonight,)


def test_a_reboot_hides_a_clock_that_went_back(made: Nights) -> None:
    first = made.nights(3)
    made.reboot()
    wrong = made.night(clock_off=-30 * DAY)
    found = of(made)
    assert names(found) == [[name] for name in (wrong, *first)]
    assert found.notes == ()


def test_a_clock_that_went_back_during_a_session_orders_its_runs(made: Nights) -> None:
    def back(record: dict[str, Any]) -> None:
        if record["block"] == 2:
            record["started_utc"] = "2026-09-01T00:00:00Z"
        record["metrics"]["load_s"]["value"] = float(record["block"])

    made.night(change=back)
    found = of(made, "load_s")
    assert found.nights[0].sessions[0].values == (0.0, 1.0, 2.0)
    assert len(found.notes) == 1


def test_only_the_metrics_that_are_asked_for(made: Nights) -> None:
    made.night()
    found = series(read(made.suite), metrics=["load_s", "nothing"])
    assert [one.metric for one in found] == ["load_s"]


def test_a_started_time_that_is_none_falls_back_to_the_sessions_name(made: Nights) -> None:
    first = made.night(change=lambda record: record.update(started_utc="yesterday"))
    second = made.night()
    assert names(of(made)) == [[first], [second]]


def test_a_folder_without_a_usable_run_has_no_series(made: Nights) -> None:
    made.night(change=skipped)
    assert series(read(made.suite)) == []
    empty = SimpleNamespace(frame=read(made.suite).frame.iloc[:0])
    assert series(empty) == []
