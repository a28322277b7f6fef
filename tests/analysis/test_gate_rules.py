"""The nightly gate's rules: histories of every length and kind, and how often they err (seeds not used for tuning)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import gate_figures
from benchmarks.gate_figures import history, night
from melt.analysis.gate import Finding, Night, SessionValues, controlled, gate

STEADY = (100.0, 101.0, 99.0, 100.5, 99.5)


def steady(number: int, level: float = 1.0) -> list[Night]:
    """Nights of one level, of 1 % between runs, each shifted a little."""
    return [night(i, [value * level * (1 + 0.004 * (i % 5 - 2)) for value in STEADY]) for i in range(number)]


def after(nights: list[Night], *levels: float) -> list[Night]:
    """And nights of other levels."""
    return [*nights, *(night(len(nights) + i, [v * level for v in STEADY]) for i, level in enumerate(levels))]


def found(word: str, p: float | None) -> Finding:
    return Finding(word, 0.1, 0.05, p, 1.0, 1.1, 14, "a", False, "said")  # type: ignore[arg-type]


def test_a_slow_down_is_caught_on_the_first_night_and_names_it() -> None:
    said = gate([*steady(20), night(20, [v * 0.85 for v in STEADY], [v * 0.852 for v in STEADY])])
    assert (said.found, said.weaker, said.since, said.nights) == ("confirmed", True, "night-020", 14)
    assert said.change == pytest.approx(-0.15, abs=1e-3)
    assert said.value == pytest.approx(85.0)
    assert said.baseline == pytest.approx(100.0, rel=2e-3)
    assert said.p is not None
    assert said.p < 1e-6
    assert "night-020-1 of the same night" in said.rule
    assert "weaker" in said.rule


def test_a_rerun_after_a_reboot_confirms_in_full() -> None:
    first, rerun = night(20, [v * 1.15 for v in STEADY], [v * 1.16 for v in STEADY]).sessions
    said = gate([*steady(20), Night((first, replace(rerun, independent=True)))])
    assert (said.found, said.weaker) == ("confirmed", False)
    assert "after a reboot" in said.rule


def test_without_a_rerun_it_is_suspect_and_the_next_night_confirms_naming_the_first() -> None:
    first = gate(after(steady(20), 1.15))
    assert (first.found, first.since, first.weaker) == ("suspect", "night-020", False)
    assert "no other session has seen it yet" in first.rule
    second = gate(after(steady(20), 1.15, 1.14))
    assert (second.found, second.since, second.weaker) == ("confirmed", "night-020", False)
    assert second.p is not None
    assert first.p is not None
    assert second.p < first.p


def test_a_rerun_that_disagrees_leaves_it_suspect() -> None:
    said = gate([*steady(20), night(20, [v * 1.15 for v in STEADY], STEADY)])
    assert (said.found, said.since) == ("suspect", "night-020")
    assert "night-020-1 did not see it" in said.rule
    opposite = gate([*steady(20), night(20, [v * 1.15 for v in STEADY], [v * 0.85 for v in STEADY])])
    assert opposite.found == "suspect"


def test_what_stays_is_confirmed_for_a_history_and_is_the_baseline_then() -> None:
    words = [gate(after(steady(20), *[1.15] * lasted)) for lasted in range(1, 16)]
    assert [one.found for one in words] == ["suspect", *["confirmed"] * 13, "ok"]
    assert {one.since for one in words[:-1]} == {"night-020"}
    assert words[13].baseline == pytest.approx(words[0].baseline)
    assert words[14].baseline == pytest.approx(115.0)
    back = gate(after(steady(20), *[1.15] * 15, 1.0, 1.0))
    assert (back.found, back.since) == ("confirmed", "night-035")


def test_what_came_and_went_leaves_the_baseline_as_it_was() -> None:
    said = gate(after(steady(20), *[1.15] * 8, 1.0))
    assert said.found == "ok"
    assert said.baseline == pytest.approx(100.0, rel=2e-3)
    assert said.limit == gate(after(steady(20), 1.0)).limit
    assert "the change of night-027 was not seen again" in said.rule
    again = gate(after(steady(20), *[1.15] * 8, 1.0, 1.0, 1.15))
    assert (again.found, again.since) == ("suspect", "night-030")


def test_a_night_seen_once_enters_the_baseline_and_two_in_a_row_do_not() -> None:
    assert gate(after(steady(20), 1.15, 1.0, 1.0), history=30).nights == 22
    assert gate(after(steady(20), 1.15, 1.15, 1.0, 1.0), history=30).nights == 21
    assert gate(after(steady(20), 1.15, 0.85, 1.0, 1.0), history=30).nights == 23


def test_a_rerun_that_shares_the_noise_adds_nothing_to_what_another_night_saw() -> None:
    twice, again = [v * 1.15 for v in STEADY], [v * 1.3 for v in STEADY]
    nights = after(steady(20), 1.15)
    alone, rerun = gate([*nights, night(21, twice)]), gate([*nights, night(21, twice, again)])
    assert (rerun.found, rerun.weaker, rerun.p) == ("confirmed", False, alone.p)


def test_a_confirmed_change_is_over_when_it_is_back_within_half_of_the_limits() -> None:
    limit = gate(after(steady(20), 1.0)).limit
    assert limit is not None
    still = gate(after(steady(20), 1.05, 1.05, 1 + 0.7 * limit))
    assert (still.found, still.since) == ("confirmed", "night-020")
    assert "not back within half of" in still.rule
    assert gate(after(steady(20), 1.05, 1.05, 1 + 0.7 * limit, 1.05)).since == "night-020"
    assert gate(after(steady(20), 1.05, 1.05, 1 + 0.3 * limit)).found == "ok"
    assert gate(after(steady(20), 1.05, 1 + 0.7 * limit)).found == "ok"  # it was not confirmed
    assert gate(after(steady(20), 1.05, 1.05, 1 - 0.7 * limit)).found == "ok"


def test_two_nights_in_opposite_directions_do_not_confirm_each_other() -> None:
    said = gate(after(steady(20), 1.15, 0.85))
    assert (said.found, said.since) == ("suspect", "night-021")


@pytest.mark.parametrize("level", [0.85, 1.15])
def test_both_directions_alert_alike(level: float) -> None:
    said = gate(after(steady(20), level, level))
    assert said.found == "confirmed"
    assert said.change == pytest.approx(level - 1, abs=1e-3)


def test_a_wild_night_in_the_baseline_neither_alarms_nor_hides() -> None:
    nights = after(steady(10), 3.0)
    nights += [night(11 + i, STEADY) for i in range(8)]
    assert gate(after(nights, 1.001)).found == "ok"
    said = gate(after(nights, 1.10, 1.10))
    assert said.found == "confirmed"
    assert controlled([said])[0].found == "confirmed"


def test_a_rounded_history_has_the_floor_of_one_nights_median() -> None:
    nights = [night(i, [96.0, 98.0, 100.0, 102.0, 104.0]) for i in range(16)]  # the medians are all the same
    said = gate([*nights, night(16, [100.0, 102.0, 104.0, 106.0, 108.0])])
    assert said.found == "ok"
    assert said.limit is not None
    assert said.limit > 0.045
    assert "floored at the error of one night's median" in said.rule
    assert gate([*nights, night(16, [108.0, 110.0, 112.0, 114.0, 116.0])]).found == "suspect"


def test_without_any_spread_three_per_cent_decide() -> None:
    nights = [night(i, [7.0]) for i in range(16)]
    assert gate([*nights, night(16, [7.2])]).found == "ok"
    said = gate([*nights, night(16, [7.3]), night(17, [7.3])])
    assert said.found == "confirmed"
    assert said.p is not None
    assert said.p < 1e-50
    assert said.limit == pytest.approx(0.03)


def test_few_runs_tonight_widen_the_floor() -> None:
    nights = [night(i, [96.0, 98.0, 100.0, 102.0, 104.0]) for i in range(16)]
    five, one = (gate([*nights, night(16, values)]).limit for values in ([100.0] * 5, [100.0]))
    assert five is not None
    assert one is not None
    assert one > 1.5 * five


@pytest.mark.parametrize("before", range(5))
def test_under_five_nights_there_is_no_verdict(before: int) -> None:
    said = gate(after(steady(before), 2.0))
    assert (said.found, said.change, said.limit, said.p, said.since) == ("no_verdict", None, None, None, None)
    assert said.nights == before
    assert said.value == pytest.approx(200.0)
    assert f"{before} of the 5 nights" in said.rule


@pytest.mark.parametrize("before", [5, 9, 13])
def test_of_five_to_thirteen_nights_a_verdict_is_provisional(before: int) -> None:
    said = gate(after(steady(before), 1.15))
    assert (said.found, said.since) == ("provisional", f"night-{before:03}")
    assert f"{before} of the 14 nights" in said.rule
    assert gate(after(steady(before), 1.005)).found == "ok"
    lasting = gate(after(steady(before), 1.15, 1.15))
    assert lasting.since == f"night-{before:03}"
    assert lasting.found == ("confirmed" if before == 13 else "provisional")  # the change is a night of it


def test_the_provisional_limit_is_students() -> None:
    nights = [night(i, [100 * math.exp(off)]) for i, off in enumerate((-0.02, 0.0, 0.02, 0.01, -0.01))]
    limit = gate([*nights, night(5, [100.0])]).limit
    spread = math.sqrt(0.001 / 4)
    assert limit == pytest.approx(math.expm1(4.604095 * spread * math.sqrt(1.2)), rel=1e-5)


def test_nights_without_values_are_gaps() -> None:
    nights = steady(20)
    for at in (3, 11, 19):
        nights[at] = Night((SessionValues(nights[at].name, ()),))
    said = gate(after(nights, 1.15))
    assert (said.found, said.nights) == ("suspect", 14)
    confirmed = gate([*after(nights, 1.15), night(21, []), night(22, [115.0])])
    assert (confirmed.found, confirmed.since) == ("confirmed", "night-020")
    assert gate([*steady(8)[:6], night(6, []), night(7, STEADY)]).nights == 6


def test_a_night_without_a_value_neither_passes_nor_fails() -> None:
    said = gate([*steady(20), night(20, [])])
    assert (said.found, said.value) == ("no_verdict", None)
    assert "no value" in said.rule
    assert gate([*steady(20), night(20, [math.nan])]).found == "no_verdict"
    assert gate([]).found == "no_verdict"


def test_a_night_stands_on_its_first_session_with_values() -> None:
    nights = [*steady(20), night(20, [], [v * 1.15 for v in STEADY])]
    assert gate(nights).value == pytest.approx(115.0)
    nights = [night(i, STEADY, [v * 5 for v in STEADY]) for i in range(20)]
    said = gate([*nights, night(20, STEADY)])
    assert (said.found, said.baseline) == ("ok", pytest.approx(100.0))


def test_values_that_are_not_positive_are_judged_as_shares_of_the_middle() -> None:
    values = [[-50.0 + off + i % 3 for off in (-1.0, 0.0, 1.0)] for i in range(16)]
    nights = [night(i, of) for i, of in enumerate(values)]
    said = gate([*nights, night(16, [-40.0, -40.0, -40.0])])
    assert (said.found, said.baseline) == ("suspect", -49.0)
    assert said.change == pytest.approx(9 / 49)
    assert said.limit == pytest.approx(3 * 1.4826 / 49)


def test_a_count_that_was_zero_has_no_share_to_change_by() -> None:
    nights = [night(i, [0.0, 0.0]) for i in range(16)]
    same, other = gate([*nights, night(16, [0.0, 0.0])]), gate([*nights, night(16, [4.0, 4.0])])
    assert (same.found, same.change, same.baseline) == ("ok", 0.0, 0.0)
    assert (other.found, other.change, other.value) == ("no_verdict", None, 4.0)
    assert "around 0" in other.rule


def test_the_history_is_as_long_as_it_is_asked_to_be() -> None:
    nights = [*steady(20, 0.5), *steady(20)]
    nights = [night(i, one.sessions[0].values) for i, one in enumerate(nights)]
    assert gate(nights, history=30).nights == 20  # the change became the baseline
    assert gate(steady(40), history=30).nights == 30
    assert gate(steady(40)).nights == 14


def test_what_lies_far_back_has_no_say() -> None:
    old = [night(i, [-5.0, 0.0]) for i in range(20)]
    nights = [night(20 + i, one.sessions[0].values) for i, one in enumerate(after(steady(42), 1.15))]
    assert gate([*old, *nights]) == gate(nights)


def test_how_alike_the_sessions_of_a_night_are_is_measured() -> None:
    rng = np.random.default_rng(5)
    days = rng.normal(0, 0.01, 400)
    runs = rng.normal(0, 0.02, (400, 2, 5))
    nights = [night(i, *(100 * np.exp(day + of)).tolist()) for i, (day, of) in enumerate(zip(days, runs, strict=True))]
    expected = 0.01**2 / (0.01**2 + 0.02**2 * 0.287)  # the variance of the median of five normal values
    assert gate(nights).day_correlation == pytest.approx(expected, abs=0.15)
    assert gate(nights[:4]).day_correlation is None
    assert gate(steady(30)).day_correlation is None


def test_false_alarms_are_controlled_over_all_series_of_a_night() -> None:
    alone = controlled([found("confirmed", 1e-3)])
    assert alone[0].found == "confirmed"
    among = controlled([found("confirmed", 1e-3), *(found("ok", (i + 1) / 1000) for i in range(999))])
    assert among[0].found == "suspect"
    assert "p = 0.001" in among[0].rule
    assert "1,000 series" in among[0].rule
    together = controlled([*(found("confirmed", 1e-3) for _ in range(100)), *(found("ok", 0.5) for _ in range(900))])
    assert [one.found for one in together[:100]] == ["confirmed"] * 100
    kept = [found("suspect", 0.2), found("ok", None), found("no_verdict", None)]
    assert controlled(kept) == kept
    provisional = controlled([found("provisional", 0.5)])[0]
    assert (provisional.found, "by chance" in provisional.rule) == ("provisional", True)
    assert controlled([]) == []


def test_a_change_of_a_real_history_survives_the_control() -> None:
    rng = np.random.default_rng(8)
    slow = gate(history(rng, [0.0] * 20 + [0.15] * 2))
    others = [gate(history(rng, [0.0] * 22)) for _ in range(500)]
    said = controlled([slow, *others])
    assert (said[0].found, said[0].since) == ("confirmed", "night-020")
    assert not [one for one in said[1:] if one.found == "confirmed"]


def test_the_chance_of_a_steady_night_is_uniform_or_less() -> None:
    rng = np.random.default_rng(9)
    p = [said.p for _ in range(1500) for said in [gate(history(rng, [0.0] * 15))] if said.p is not None]
    assert len(p) == 1500
    for share in (0.05, 0.2, 0.5):
        assert 0.7 * share < np.mean(np.array(p) <= share) < share + 3 * math.sqrt(share * (1 - share) / 1500)


def test_the_gates_figures() -> None:
    """Fewer histories than `make bench` takes: the bounds are three standard errors further out."""
    assert gate_figures.gate_power_8(1500) > 0.92 - 0.021
    assert gate_figures.gate_power_5(1500) > 0.45 - 0.039
    assert gate_figures.gate_false_alarms(6000) <= 0.001 + 0.0012
    assert gate_figures.gate_false_alarms_same_night(4000) <= 0.004 + 0.003


def test_the_bench_has_the_targets_that_were_promised() -> None:
    assert {one.name: one.target for one in gate_figures.FIGURES} == {
        "gate_false_alarms": (None, 0.001),
        "gate_power_8": (0.92, None),
        "gate_power_5": (0.45, None),
        "gate_false_alarms_same_night": (None, 0.004),
    }
    assert gate_figures.FALSE_ALARM_HISTORIES >= 20_000
