"""Nothing passes because it is not there: lost meters, nights that did not begin, sessions that go on, half a night."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from nightly.made_nights import FIRST, Nights, skipped, spoilt

from melt.errors import UsageError
from melt.nightly import judge
from melt.report.gate_words import headline, missing_lines
from melt.report.junit import junit_xml
from melt.store import open_session

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "boundary module, provenance measured, updates of power integrated: gpu_soc; refresh 0.1 s, lag 0.1 s"
GAP = {"value": None, "reason": "no_sensor: the meter is unplugged"}


@pytest.fixture
def made(tmp_path: Path) -> Nights:
    return Nights(tmp_path / "results" / "nightly")


def metered(record: dict[str, Any]) -> None:
    record["fingerprint"]["hard"]["energy_total"] = "module: gpu_soc"
    record["metrics"]["j_per_inference"] = {"value": 0.06 + 1e-4 * record["block"], "note": NOTE}


def unplugged(record: dict[str, Any]) -> None:
    """As melt records it: the gap, and a fingerprint of energy that has no total."""
    record["fingerprint"]["hard"]["energy_total"] = None
    record["metrics"]["j_per_inference"] = GAP


def test_a_meter_that_was_unplugged_is_missed_although_its_fingerprint_changed_too(made: Nights) -> None:
    *_, last = made.nights(14, change=metered)
    made.night(change=unplugged)
    result = judge(made.suite)
    told = f"no_sensor: the meter is unplugged; it was last there in night {last}"
    assert [(lost.metric, lost.why) for lost in result.missing] == [("j_per_inference", told)]
    assert result.overall == "incomplete"


def test_a_metric_that_is_lost_stays_missed_for_as_many_nights_as_the_history(made: Nights) -> None:
    made.nights(14)
    for _ in range(14):
        made.night(change=lambda record: record["metrics"].update(load_s=GAP))
        assert [lost.metric for lost in judge(made.suite).missing] == ["load_s"]
    made.night(change=lambda record: record["metrics"].update(load_s=GAP))
    assert judge(made.suite).missing == ()


def test_a_metric_is_missed_after_a_night_in_which_its_cell_was_away(made: Nights) -> None:
    made.devices = ("pi5", "orin")
    made.nights(14)
    made.night(devices=["orin"])
    made.night(change=lambda record: record["metrics"].update(load_s=GAP))
    assert [lost.name for lost in judge(made.suite).missing] == ["orin, net, load_s", "pi5, net, load_s"]


def test_the_metrics_of_a_lost_meter_are_one_line_for_people(made: Nights) -> None:
    made.cells = tuple(f"net{number}" for number in range(8))
    made.nights(14, change=metered)
    made.night(change=unplugged)
    result = judge(made.suite)
    assert len(result.missing) == 8
    (line,) = missing_lines(result.missing)
    assert line.startswith("pi5, 8 missing: net0 j_per_inference, net1 j_per_inference,")
    assert "and 4 more: no_sensor" in line


# ------------------------------------------------------------------------------------- a night that did not begin


def test_a_night_that_did_not_begin_is_never_a_pass_of_the_one_before(made: Nights) -> None:
    made.nights(15)
    last_s = (made.begin - dt.timedelta(days=1)).timestamp()
    assert judge(made.suite, now_s=last_s + 26 * 3600).overall == "pass"
    result = judge(made.suite, now_s=last_s + 29 * 3600)
    assert (result.overall, result.exit_code(strict=False), result.exit_code(strict=True)) == ("incomplete", 0, 1)
    assert headline(result) == "incomplete: no night since"
    assert result.late is not None
    assert result.late.startswith("no night has begun for 1.2 days, and there is usually one every 1.0")


def test_a_suite_of_every_week_is_not_late_after_some_days(made: Nights) -> None:
    for _ in range(6):
        made.night()
        made.begin += dt.timedelta(days=6)
    last_s = (made.begin - dt.timedelta(days=7)).timestamp()
    assert judge(made.suite, now_s=last_s + 6 * 86400).late is None
    assert judge(made.suite, now_s=last_s + 8 * 86400).late is not None


def test_the_first_night_has_none_to_wait_for(made: Nights) -> None:
    made.night()
    assert judge(made.suite, now_s=FIRST.timestamp() + 9 * 86400).late is None


# ------------------------------------------------------------------------------------------- half a night


def test_a_session_that_is_still_carried_out_is_incomplete_and_not_a_device_that_was_not_reached(made: Nights) -> None:
    made.devices = ("pi5", "orin")
    made.nights(14)
    tonight = made.night(devices=["orin"], planned=["pi5", "orin"])
    with open_session(made.suite / tonight).alone():
        result = judge(made.suite)
    assert result.running == (tonight,)
    assert [lost.why for lost in result.missing] == [
        f"no run was begun yet: session {tonight} is still being carried out"
    ]
    assert headline(result).startswith("incomplete: 1 session still running, 1 missing")
    assert judge(made.suite).running == ()


def test_a_running_session_with_a_value_of_each_cell_is_no_pass_either(made: Nights) -> None:
    made.nights(14)
    tonight = made.night()
    with open_session(made.suite / tonight).alone():
        result = judge(made.suite)
    assert (result.overall, result.missing) == ("incomplete", ())
    (skipped_case,) = ET.fromstring(junit_xml(result)).iter("skipped")  # noqa: S314 - our own file
    assert f"session {tonight} is still being carried out" in skipped_case.attrib["message"]


def test_what_stands_on_fewer_runs_than_planned_is_told(made: Nights) -> None:
    made.cells = ("net", "small")
    made.nights(14)
    made.night(change=lambda r: spoilt(r) if r["cell"] == "net" and r["block"] > 0 else None)
    assert [text for text in judge(made.suite).warnings if "planned runs" in text] == [
        "pi5: 4 of 10 planned runs have no usable value tonight (net)"
    ]


# ---------------------------------------------------------------------------------------- what a CI reads of it


@pytest.mark.parametrize("strict", [False, True])
def test_whatever_exits_1_has_a_failure_or_an_error_in_its_xml(made: Nights, *, strict: bool) -> None:
    made.nights(14)
    made.night(change=skipped)
    nothing = judge(made.suite)
    made.nights(1)
    late = judge(made.suite, now_s=made.begin.timestamp() + 86400)
    for result in (nothing, late):
        root = ET.fromstring(junit_xml(result, strict=strict))  # noqa: S314 - our own file
        failed = [*root.iter("failure"), *root.iter("error")]
        assert bool(failed) == bool(result.exit_code(strict=strict)), result.overall
        assert int(root.attrib["errors"]) == len(list(root.iter("error")))


def test_forty_devices_of_which_none_answered(made: Nights) -> None:
    made.devices = tuple(f"dev{number:02d}" for number in range(40))
    made.nights(6)
    made.night(devices=[], planned=made.devices)
    result = judge(made.suite)
    assert (result.overall, result.exit_code(strict=False), len(result.missing)) == ("nothing judged", 1, 40)
    root = ET.fromstring(junit_xml(result))  # noqa: S314 - our own file
    assert len(list(root.iter("skipped"))) == 40
    assert len(list(root.iter("error"))) == 1


# --------------------------------------------------------------------------------------------- which folder


def test_a_folder_inside_a_suite_names_the_suite(made: Nights) -> None:
    tonight = made.night()
    run = next((made.suite / tonight).glob("*/run.json")).parent
    for folder in (made.suite / tonight, run):
        with pytest.raises(UsageError) as told:
            judge(folder)
        assert str(told.value).endswith(f"name one, such as {made.suite}")


def test_a_suite_that_is_given_by_a_link_is_the_same(made: Nights) -> None:
    made.nights(14)
    made.night(factor=1.15)
    link = made.suite.parent.parent / "link"
    link.symlink_to(made.suite)
    assert [one.finding for one in judge(link).judged] == [one.finding for one in judge(made.suite).judged]


def test_a_night_that_begins_before_midnight_is_one_with_its_rerun_after_it(made: Nights) -> None:
    made.begin = dt.datetime(2026, 10, 24, 23, 30, tzinfo=dt.UTC)
    made.nights(14)
    first = made.night(factor=1.15)
    again = made.rerun(hours=1, factor=1.15)
    result = judge(made.suite)
    assert result.sessions == (first, again)
    assert (first[:8], again[:8]) == ("20261107", "20261108")
    assert (result.overall, result.nights) == ("fail", 15)


# ---------------------------------------------------------------------------- a session that is not the night's own


def test_a_session_of_the_afternoon_does_not_hide_what_the_night_shows(made: Nights) -> None:
    made.nights(14)
    by_hand = made.session(made.begin - dt.timedelta(hours=10))
    tonight = made.night(factor=lambda *key: 1.15 if key[2] == "latency_p50_s" else 1.0)
    result = judge(made.suite)
    assert result.sessions == (by_hand, tonight)
    (slow,) = result.of("suspect")
    assert (slow.series.metric, slow.finding.since, result.overall) == ("latency_p50_s", by_hand, "suspect")
    assert slow.finding.change == pytest.approx(0.15, abs=0.02)
    assert f"the night's last session, {tonight}, lies" in slow.finding.rule
    assert (slow.notable, slow.finding.weaker) == (True, False)


def test_a_last_session_that_alone_lies_outside_confirms_nothing_not_even_after_nights_that_did(made: Nights) -> None:
    made.nights(14)
    made.nights(2, factor=1.15)
    made.night()
    made.rerun(factor=1.15)
    assert {one.state for one in judge(made.suite).judged} == {"suspect"}


def test_a_cell_whose_records_are_all_damaged_is_not_told_as_a_device_that_was_not_reached_alone(made: Nights) -> None:
    made.devices = ("pi5", "orin")
    made.nights(14)
    for file in (made.suite / made.night()).glob("*/run.json"):
        if '"device": "pi5"' in file.read_text():
            file.write_text("{")
    (lost,) = judge(made.suite).missing
    assert lost.why.endswith("or it is among the 5 runs of the night that cannot be read")


def test_a_count_that_was_zero_is_told_by_name_and_not_as_a_series_that_is_young(made: Nights) -> None:
    def swaps(value: float) -> Any:
        return lambda record: record["metrics"].update(swap_bytes={"value": value})

    made.nights(14, change=swaps(0.0))
    made.night(change=swaps(4096.0))
    (told,) = judge(made.suite, metrics=["swap_bytes"]).warnings
    assert told.startswith("pi5 net swap_bytes: 4096 after 14 nights around 0")
