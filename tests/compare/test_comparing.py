"""What may be compared with what, which runs are paired, and what is said of everything that is not compared."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_index import index, noisy, runs

from melt.analysis.contrast import contrast, nameable
from melt.compare import Asked, Comparison, compared
from melt.compare.contrasts import DRIFT
from melt.errors import NotComparable, UsageError
from melt.store import Unreadable

if TYPE_CHECKING:
    from melt.compare import Verdict
    from melt.history.index import Index

OTHER = "20261122T030000Z"


def comparison(*sides: list[dict[str, Any]], history: tuple[Index, ...] = (), **asked: Any) -> Comparison:
    names = ("before", "after")[: len(sides)]
    indexes = {name: index(rows) for name, rows in zip(names, sides, strict=True)}
    return compared(indexes, [one.frame for one in history], Asked(**asked))


def refused(*sides: list[dict[str, Any]], **asked: Any) -> NotComparable:
    with pytest.raises(NotComparable) as caught:
        comparison(*sides, **asked)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    return caught.value


def usage(*sides: list[dict[str, Any]], **asked: Any) -> str:
    with pytest.raises(UsageError) as caught:
        comparison(*sides, **asked)
    return str(caught.value)


def only(found: Comparison, metric: str = "latency_p50_s") -> Verdict:
    (one,) = [verdict for verdict in found.verdicts if verdict.metric == metric]
    return one


def swept(**more: Any) -> list[dict[str, Any]]:
    """A sweep of threads in the same blocks, under a drift; two threads are 5 % faster."""
    rows = []
    for threads in (1, 2):
        figures = {"latency_p50_s": noisy(0.01 * 0.95 ** (threads - 1), 0.004, threads, drift=0.04)}
        rows += runs(figures, cell=f"toy[threads={threads}]", hard={"threads": threads}, **more)
    return rows


# ----------------------------------------------------------------------------------------------------------- pairing


def test_runs_of_a_block_are_paired_so_that_a_drift_of_the_session_drops_out() -> None:
    found = comparison(swept(n=6), axis="threads")
    one = only(found)
    assert one.found is not None
    assert (one.word, one.found.paired, one.found.n_a) == ("faster", True, 6)
    assert one.found.ratio == pytest.approx(0.95, rel=0.01)
    assert (one.found.high or 9) / (one.found.low or 1) < 1.03
    assert DRIFT not in one.caveats
    assert (found.base, found.base_why) == ("1", "the first in order")
    assert (one.a_side, one.b_side, one.cell) == ("threads 1", "threads 2", "toy")


def test_the_same_values_without_their_blocks_do_not_carry_the_verdict() -> None:
    """What the pairing is for: the drift of 4 % a block hides a twentieth where sides are of different sessions."""
    a = swept(n=6)[:6]
    b = [{**row, "session": OTHER} for row in swept(n=6)[6:]]
    for row in b:
        row["cell"], row["run_id"] = "toy[threads=2]", f"{OTHER}-{row['block']:08x}"
    one = only(comparison(a, b, axis="threads"))
    assert one.found is not None
    assert (one.word, one.found.paired) == ("inconclusive", False)
    assert DRIFT in one.caveats


def test_a_paired_ratio_is_that_of_the_runs_values() -> None:
    rows = swept(n=4)
    logs = [math.log(b["value"] / a["value"]) for a, b in zip(rows[:4], rows[4:], strict=True)]
    one = only(comparison(rows, axis="threads"))
    assert one.found is not None
    assert one.found.ratio == pytest.approx(math.exp(sum(logs) / 4))
    assert one.b == pytest.approx((one.a or 0) * one.found.ratio)


def test_a_run_without_a_partner_in_its_block_is_told() -> None:
    rows = [row for row in swept(n=6) if not (row["cell"].endswith("2]") and row["block"] == 3)]
    one = only(comparison(rows, axis="threads"))
    assert one.found is not None
    assert one.found.n_b == 5
    assert any("1 runs have no partner" in text for text in one.caveats)


def test_devices_are_not_paired_by_block_for_they_ran_at_once() -> None:
    a = runs({"latency_p50_s": noisy(0.01)}, device="pi5")
    b = runs({"latency_p50_s": noisy(0.02, seed=2)}, device="pixel", hard={"profile": "android", "machine": "aarch64"})
    one = only(comparison([*a, *b], axis="device"))
    assert one.found is not None
    assert (one.word, one.found.paired, one.device) == ("slower", False, "pi5 → pixel")
    assert DRIFT not in one.caveats


def test_two_sessions_of_one_folder_are_the_sides_of_the_axis_session() -> None:
    rows = runs({"latency_p50_s": noisy(0.01)}) + runs({"latency_p50_s": noisy(0.01, seed=2)}, session=OTHER)
    found = comparison(rows)
    assert (found.base, found.base_why) == ("20261121T030000Z", "the earliest")
    assert only(found).word == "equivalent"
    assert comparison(rows, base=OTHER).base == OTHER


# --------------------------------------------------------------------------------------------------------- bad input


def test_two_runs_are_inconclusive_and_say_so() -> None:
    one = only(comparison(swept(n=2), axis="threads"))
    assert one.found is not None
    assert (one.word, one.found.low) == ("inconclusive", None)
    assert "an interval needs 3" in (one.found.why_not or "")


def test_three_runs_are_no_difference_however_large() -> None:
    one = only(comparison(swept(n=3), axis="threads"))
    assert one.word == "inconclusive"
    assert "under 4" in one.why


def test_zero_variance_has_an_interval_without_width() -> None:
    one = only(comparison(runs({"latency_p50_s": 0.01}), runs({"latency_p50_s": 0.01}, session=OTHER)))
    assert one.found is not None
    assert (one.word, one.found.ratio, one.found.detectable) == ("equivalent", 1.0, None)
    assert "neither side varies" in one.found.notes[0]


def test_values_of_zero_and_below_have_no_ratio() -> None:
    a = runs({"j_per_inference": lambda block: float(block - 1)})
    b = runs({"j_per_inference": noisy(2.0)}, session=OTHER)
    one = only(comparison(a, b), "j_per_inference")
    assert one.found is not None
    assert (one.word, one.found.ratio) == ("inconclusive", None)
    assert "0 or below" in one.why
    assert one.a == pytest.approx(1.0)


def test_a_cell_of_one_side_alone_is_named_with_its_side() -> None:
    a = runs({"latency_p50_s": noisy(0.01)}) + runs({"latency_p50_s": noisy(0.02)}, cell="vit")
    found = comparison(a, runs({"latency_p50_s": noisy(0.01, seed=3)}, session=OTHER))
    (alone,) = found.unmatched
    assert (alone.side, alone.cell, alone.runs) == ("before", "vit", 5)
    assert "workload" in alone.why
    assert [one.cell for one in found.verdicts] == ["toy"]


def test_a_metric_of_one_side_alone_is_refused_with_the_reason() -> None:
    a = runs({"latency_p50_s": noisy(0.01), "j_per_inference": noisy(2.0)})
    b = runs({"latency_p50_s": noisy(0.01), "j_per_inference": None}, session=OTHER)
    one = only(comparison(a, b), "j_per_inference")
    assert (one.word, one.found, one.b) == (None, None, None)
    assert "no run of b has it (no_sensor" in (one.refused or "")
    assert one.a == pytest.approx(2.0, rel=0.02)


def test_mixed_metric_versions_are_refused_with_the_way_out() -> None:
    a = runs({"latency_p50_s": noisy(0.01)}, hard={"metric_version": 1})
    error = refused(a, runs({"latency_p50_s": noisy(0.01)}, session=OTHER))
    assert "metric_version" in str(error)
    assert "melt analyse" in str(error)


def test_metric_versions_that_only_the_values_bear_are_refused_too() -> None:
    a = runs({"latency_p50_s": noisy(0.01)})
    b = [{**row, "metric_version": 3} for row in runs({"latency_p50_s": noisy(0.01)}, session=OTHER)]
    one = only(comparison(a, b))
    assert one.word is None
    assert "metric versions 2, 3" in (one.refused or "")


def energy(total: str, **more: Any) -> list[dict[str, Any]]:
    rows = runs({"latency_p50_s": noisy(0.01), "j_per_inference": noisy(2.0)}, hard={"energy_total": total}, **more)
    return [{**row, "total": total if row["metric"] == "j_per_inference" else None} for row in rows]


def test_energy_of_other_boundaries_is_refused_and_the_times_go_on() -> None:
    found = comparison(energy("battery: usb"), energy("wall: plug", session=OTHER))
    assert only(found).word == "equivalent"
    one = only(found, "j_per_inference")
    assert one.word is None
    assert "battery: usb and wall: plug: these are never compared" in (one.refused or "")


def test_energy_of_other_boundaries_is_refused_even_where_it_is_allowed() -> None:
    found = comparison(
        energy("battery: usb"), energy("wall: plug", session=OTHER), allowed=(("energy_total", "I want it"),)
    )
    assert only(found, "j_per_inference").word is None


def test_energy_by_other_sensors_of_one_boundary_may_be_allowed() -> None:
    sides = energy("rail: a"), energy("rail: a + b", session=OTHER)
    assert "by other sensors" in (only(comparison(*sides), "j_per_inference").refused or "")
    one = only(comparison(*sides, allowed=(("energy_total", "b is not wired"),)), "j_per_inference")
    assert one.word == "equivalent"
    assert "at one boundary by other sensors" in one.caveats[0]


def test_what_a_figure_may_itself_be_off_by_is_told_beside_its_interval() -> None:
    a, b = energy("wall: plug"), energy("wall: plug", session=OTHER)
    b = [{**row, "error": 0.1 if row["metric"] == "j_per_inference" else None} for row in b]
    found = comparison(a, b)
    (caveat,) = [text for text in only(found, "j_per_inference").caveats if "by its instrument" in text]
    assert caveat.endswith("up to 5.1% of it")
    assert not any("by its instrument" in text for text in only(found).caveats)


def test_devices_that_are_allowed_to_differ_are_not_paired_either() -> None:
    rows = runs({"latency_p50_s": noisy(0.01)}, device="pi5", hard={"spin": True})
    rows += runs({"latency_p50_s": noisy(0.01, seed=2)}, device="pi5-b", hard={"spin": False})
    one = only(comparison(rows, axis="spin", allowed=(("device", "two boards of one batch"),)))
    assert one.found is not None
    assert one.found.paired is False


def test_energy_of_two_boundaries_on_one_side_is_refused() -> None:
    a = energy("battery: usb") + energy("wall: plug", blocks=(7, 8))
    one = only(comparison(a, energy("battery: usb", session=OTHER)), "j_per_inference")
    assert one.word is None


def test_energy_that_does_not_say_what_it_is_of_is_held_to_its_fingerprint() -> None:
    figures = {"j_per_inference": noisy(2.0), "power_mean_w.cpu": noisy(3.0)}
    a = runs(figures, hard={"energy_total": "battery: usb"})
    b = runs(figures, hard={"energy_total": "wall: plug"}, session=OTHER)
    found = comparison(a, b, metrics=("all",))
    assert "unlike energy_total: battery: usb and wall: plug" in (only(found, "j_per_inference").refused or "")
    assert only(found, "power_mean_w.cpu").word == "equivalent"


def test_synthetic_weights_forbid_to_compare_energy_alone() -> None:
    a = [{**row, "synthetic_model": True} for row in energy("wall: plug")]
    found = comparison(a, energy("wall: plug", session=OTHER))
    assert only(found).word == "equivalent"
    assert "unlike synthetic_model" in (only(found, "j_per_inference").refused or "")
    assert any("synthetic and real weights" in text for text in found.caveats)


def test_simulated_and_real_are_refused() -> None:
    a = [{**row, "simulated": True} for row in runs({"latency_p50_s": noisy(0.01)})]
    error = refused(a, runs({"latency_p50_s": noisy(0.01)}, session=OTHER))
    assert [row[1:4] for row in error.rows] == [("simulated", "true", "false")]


def test_two_simulated_sides_are_compared_and_labelled() -> None:
    a, b = runs({"latency_p50_s": noisy(0.01)}), runs({"latency_p50_s": noisy(0.01)}, session=OTHER)
    found = comparison(*([{**row, "simulated": True, "imported": "llama-bench"} for row in side] for side in (a, b)))
    assert found.labels == ("SIMULATED: a device is software", "imported from llama-bench")


def test_suites_of_one_name_with_other_content_are_a_caveat_and_the_fingerprints_decide() -> None:
    a = runs({"latency_p50_s": noisy(0.01)})
    b = [{**row, "suite_sha256": "1" * 64} for row in runs({"latency_p50_s": noisy(0.01)}, session=OTHER)]
    found = comparison(a, b)
    assert only(found).word == "equivalent"
    assert any("suite nightly: both sides have one of that name, and their files differ" in c for c in found.caveats)


def test_what_could_not_be_read_is_named_and_the_rest_is_compared() -> None:
    a, b = runs({"latency_p50_s": noisy(0.01)}), runs({"latency_p50_s": noisy(0.01)}, session=OTHER)
    broken = Unreadable(Path("results/x/20261121T030000Z/half"), "it is cut")
    newer = Unreadable(Path("results/x/20261121T030000Z/new"), "schema 9 is newer than this melt")
    found = compared({"before": index(a, (broken, newer)), "after": index(b)}, [], Asked())
    assert [note.partition(": ")[0] for note in found.notes] == ["not read"] * 2
    assert "half: it is cut" in found.notes[0]
    assert only(found).word == "equivalent"


def test_runs_that_do_not_count_are_told_and_do_not() -> None:
    a = runs({"latency_p50_s": noisy(0.01)})
    bad = [{**row, "counts": False, "value": 99.0} for row in runs({"latency_p50_s": 99.0}, blocks=(7,))]
    found = comparison([*a, *bad], runs({"latency_p50_s": noisy(0.01)}, session=OTHER))
    assert only(found).word == "equivalent"
    assert any("1 of pi5" in note for note in found.notes)


def test_the_same_runs_on_both_sides_are_refused() -> None:
    a = runs({"latency_p50_s": noisy(0.01)})
    assert "on both sides" in usage(a, a)


def test_a_side_without_a_run_that_counts_is_named() -> None:
    a = runs({"latency_p50_s": noisy(0.01)})
    none = [{**row, "counts": False} for row in runs({"latency_p50_s": 1.0}, session=OTHER)]
    assert "after holds no run that counts: 5 were skipped" in usage(a, none)
    assert "before holds no run that counts" in usage([], axis="threads")


# ------------------------------------------------------------------------------------------------ comparable or not


def test_a_hard_key_off_the_axis_is_refused_with_its_values_and_its_source() -> None:
    a = runs({"latency_p50_s": noisy(0.01)}) + runs({"latency_p50_s": noisy(0.01)}, cell="vit")
    b = runs({"latency_p50_s": noisy(0.01)}, session=OTHER, hard={"governor": "powersave"})
    b += runs({"latency_p50_s": noisy(0.01)}, cell="vit", session=OTHER)
    error = refused(a, b)
    ((cell, key, left, right, source),) = error.rows
    assert (cell, key, left, right) == ("pi5 toy", "governor", "not known", "powersave")
    assert "read from the device" in source


def test_a_key_that_this_melt_does_not_know_is_hard() -> None:
    b = runs({"latency_p50_s": noisy(0.01)}, session=OTHER, hard={"warp_drive": 2})
    assert refused(runs({"latency_p50_s": noisy(0.01)}), b).rows[0][1] == "warp_drive"


def test_nothing_alike_at_all_says_where_the_nearest_differ() -> None:
    a = runs({"latency_p50_s": noisy(0.01)})
    error = refused(a, runs({"latency_p50_s": noisy(0.01)}, device="pixel", cell="vit", session=OTHER))
    assert str(error).startswith("nothing of before can be compared with after")
    assert {row[1] for row in error.rows} == {"device", "workload"}


def test_an_override_lets_a_key_differ_and_stamps_what_comes_of_it() -> None:
    a = runs({"latency_p50_s": noisy(0.01)}, hard={"governor": "performance"})
    b = runs({"latency_p50_s": noisy(0.01)}, session=OTHER, hard={"governor": "schedutil"})
    found = comparison(a, b, allowed=(("governor", "the board has one clock"),))
    assert only(found).word == "equivalent"
    (stamp,) = found.stamps
    assert stamp == "UNLIKE, allowed by hand: governor (performance against schedutil): the board has one clock"
    assert dict(found.allowed) == {"governor": "the board has one clock"}


@pytest.mark.parametrize(
    ("key", "said"), [("govenor", "did you mean 'governor'"), ("kernel", "soft"), ("threads", "axis 'threads' varies")]
)
def test_an_override_of_what_is_no_hard_key_is_told(key: str, said: str) -> None:
    assert said in usage(swept(), axis="threads", allowed=((key, "why"),))


def test_a_soft_key_is_a_caveat() -> None:
    b = runs({"latency_p50_s": noisy(0.01)}, session=OTHER, soft={"kernel": "6.6"})
    found = comparison(runs({"latency_p50_s": noisy(0.01)}), b)
    assert found.caveats == ("kernel differs: 6.1 and 6.6",)
    assert found.matched[0].caveats == found.caveats


def test_a_key_of_an_importer_is_an_axis_of_its_own() -> None:
    rows = runs({"latency_p50_s": noisy(0.01)}, hard={"app": "one"})
    rows += runs({"latency_p50_s": noisy(0.02)}, hard={"app": "two"}, blocks=(5, 6, 7, 8))
    assert only(comparison(rows, axis="app")).b_side == "app two"
    assert "did you mean 'threads'" in usage(rows, axis="thread")


def test_an_axis_that_does_not_differ_is_told() -> None:
    rows = runs({"latency_p50_s": noisy(0.01)})
    assert "(threads: 1)" in usage(rows, axis="threads")
    b = runs({"latency_p50_s": noisy(0.01)}, session=OTHER)
    assert "does not differ between before and after" in usage(rows, b, axis="threads")
    assert "holds one value of it alone" in usage(rows)


def test_a_base_that_is_none_names_the_nearest() -> None:
    assert "valid: 1, 2" in usage(swept(), axis="threads", base="7")
    b = runs({"latency_p50_s": noisy(0.01)}, session=OTHER)
    assert "--base" in usage(runs({"latency_p50_s": noisy(0.01)}), b, base="1")


def test_numbers_are_in_order_and_each_is_held_against_the_base() -> None:
    rows = []
    for threads in (10, 2, 4):
        rows += runs({"latency_p50_s": noisy(0.1 / threads)}, cell=f"toy[threads={threads}]", hard={"threads": threads})
    found = comparison(rows, axis="threads")
    assert [(one.a_side, one.b_side) for one in found.verdicts] == [
        ("threads 2", "threads 4"),
        ("threads 2", "threads 10"),
    ]
    assert {one.word for one in found.verdicts} == {"faster"}


def test_one_folder_without_an_axis_says_along_which_it_may_be_compared() -> None:
    assert "name a second folder, or compare inside it: --axis threads" in usage(swept())


def test_another_swept_key_keeps_its_cells_apart() -> None:
    rows = []
    for threads, spin in ((1, True), (2, True), (1, False), (2, False)):
        level = 0.01 / threads * (1 if spin else 1.5)
        figures = {"latency_p50_s": noisy(level, seed=threads)}
        cell = f"toy[threads={threads},spin={spin}]"
        rows += runs(figures, cell=cell, hard={"threads": threads, "spin": spin})
    found = comparison(rows, axis="threads")
    assert [one.cell for one in found.verdicts] == ["toy[spin=True]", "toy[spin=False]"]
    (spun,) = {(one.a_side, one.b_side) for one in comparison(rows, axis="spin").verdicts}
    assert spun == ("spin false", "spin true")


def test_a_folder_that_holds_several_values_of_the_axis_cannot_be_a_side() -> None:
    b = runs({"latency_p50_s": noisy(0.01)}, session=OTHER, hard={"threads": 4})
    said = usage(swept(), b, axis="threads")
    assert "before holds toy on pi5 in several ways: threads is 1 and 2" in said


def test_models_of_two_workloads_are_named_by_their_workloads() -> None:
    rows = runs({"latency_p50_s": noisy(0.01)}, cell="small-q4", hard={"model_sha256": "f" * 64})
    rows += runs({"latency_p50_s": noisy(0.02)}, cell="small-q8", hard={"model_sha256": "0" * 64})
    found = comparison(rows, axis="quant")
    (one,) = found.verdicts
    assert (one.a_side, one.b_side, one.word) == ("quant small-q4", "quant small-q8", "slower")
    assert {d.key for d in found.matched[0].differs} == {"workload", "model_sha256"}


def test_an_engine_takes_its_own_parameters_along_and_nothing_else() -> None:
    a = runs({"latency_p50_s": noisy(0.01)}, hard={"graph_level": "all", "spin": True, "inter_threads": 1})
    own = {"engine": "llama.cpp", "engine_version": "b1", "mmap": True, "kv_k": "f16"}
    b = runs({"latency_p50_s": noisy(0.02)}, cell="toy-llama", session=OTHER, hard=own)
    assert only(comparison(a, b, axis="engine")).word == "slower"
    b = runs({"latency_p50_s": noisy(0.02)}, session=OTHER, hard={**own, "governor": "powersave"})
    assert refused(a, b, axis="engine").rows[0][1] == "governor"


def test_a_cell_that_several_could_belong_to_is_left_out_by_name() -> None:
    a = runs({"latency_p50_s": noisy(0.01)}) + runs({"latency_p50_s": noisy(0.01)}, cell="vit")
    b = runs({"latency_p50_s": noisy(0.01)}, session=OTHER)
    for minutes in (1, 2):
        more = f"vit[protocol.min_s={minutes}]"
        b += runs({"latency_p50_s": noisy(0.01)}, cell=more, session=OTHER)
    found = comparison(a, b)
    assert [one.cell for one in found.verdicts] == ["toy"]
    assert sorted(one.cell for one in found.unmatched) == [
        "vit",
        "vit[protocol.min_s=1]",
        "vit[protocol.min_s=2]",
    ]
    assert all("several cells" in one.why for one in found.unmatched)


# ------------------------------------------------------------------------------------------ metrics, δ, and overall


def test_the_main_metrics_are_compared_unless_others_are_named() -> None:
    figures = {"requests": noisy(7.0), "latency_p50_s": noisy(0.01), "latency_mean_s": noisy(0.01)}
    sides = runs(figures), runs({name: noisy(1.2 * of(9)) for name, of in figures.items()}, session=OTHER)
    assert [one.metric for one in comparison(*sides).verdicts] == ["latency_p50_s"]
    assert [one.metric for one in comparison(*sides, metrics=("latency_mean_s",)).verdicts] == ["latency_mean_s"]
    every = {one.metric: one.word for one in comparison(*sides, metrics=("all",)).verdicts}
    assert every == {"requests": "more", "latency_p50_s": "slower", "latency_mean_s": "slower"}
    assert "did you mean 'latency_p50_s'" in usage(*sides, metrics=("latency_p50",))
    assert "did you mean 'latency_p50_s'" in usage(*sides, metrics=("all", "latency_p50"))


def nights(count: int, spread: float, **more: Any) -> list[dict[str, Any]]:
    """A history whose nights lie `spread` about a level in turn."""
    rows = []
    for night in range(count):
        level = 0.01 * math.exp(spread * (-1) ** night)
        rows += runs({"latency_p50_s": noisy(level, 1e-4, night)}, session=f"202611{night + 1:02d}T030000Z", **more)
    return rows


def test_delta_is_what_the_nights_of_the_device_differ_by() -> None:
    sides = (
        runs({"latency_p50_s": noisy(0.01)}, session=OTHER),
        runs({"latency_p50_s": noisy(0.0104)}, session=OTHER[:-3] + "59Z"),
    )
    assert only(comparison(*sides)).word == "slower"
    one = only(comparison(*sides, history=(index(nights(8, 0.03)),)))
    assert one.delta == pytest.approx(math.expm1(2 * 1.4826 * 0.06 / math.sqrt(2)), rel=0.02)
    assert one.word == "equivalent"
    assert "8 nights of 1 cells of pi5" in one.delta_from
    few = only(comparison(*sides, history=(index(nights(4, 0.03)),)))
    assert (few.delta, few.word) == (0.03, "slower")
    few = only(comparison(*sides, history=(index(nights(4, 0.03) + nights(8, 0.03, device="pixel")),)))
    assert (few.delta, few.word) == (0.03, "slower")
    quiet = only(comparison(*sides, history=(index(nights(8, 0.001)),)))
    assert quiet.delta == 0.03
    assert "8 nights" in quiet.delta_from
    said = only(comparison(*sides, history=(index(nights(8, 0.03)),), delta=0.01))
    assert (said.delta, said.delta_from) == (0.01, "--delta")


def test_nights_on_both_sides_of_a_change_do_not_make_it_noise() -> None:
    """A history that holds the regression itself must not widen what is called no difference by it."""
    rows = []
    for night in range(20):
        level = 0.01 * (1.1 if night >= 10 else 1.0)
        rows += runs({"latency_p50_s": noisy(level, 0.005, night)}, session=f"202610{night + 1:02d}T030000Z")
    before = runs({"latency_p50_s": noisy(0.01, 0.005)})
    one = only(
        comparison(before, runs({"latency_p50_s": noisy(0.011, 0.005, 2)}, session=OTHER), history=(index(rows),))
    )
    assert one.delta == 0.03
    assert one.word == "slower"


def test_delta_of_independent_nights_is_two_of_their_standard_deviations() -> None:
    random = np.random.default_rng(8)
    rows = []
    for night, off in enumerate(random.normal(0, 0.04, 300)):
        started = str(np.datetime64("2025-01-01") + night).replace("-", "")
        rows += runs({"latency_p50_s": 0.01 * math.exp(off)}, session=f"{started}T030000Z", n=1)
    sides = runs({"latency_p50_s": noisy(0.01)}), runs({"latency_p50_s": noisy(0.01)}, session=OTHER)
    assert only(comparison(*sides, history=(index(rows),))).delta == pytest.approx(math.expm1(0.08), rel=0.15)


def test_p_is_adjusted_over_all_cells_and_metrics_together() -> None:
    a, b = [], []
    for number in range(40):
        figures = {"latency_p50_s": noisy(0.01, 0.02, number)}
        a += runs(figures, cell=f"c{number}", n=4)
        b += runs({"latency_p50_s": noisy(0.01, 0.02, 1000 + number)}, cell=f"c{number}", n=4, session=OTHER)
    found = comparison(a, b)
    assert len(found.verdicts) == 40
    raw = [one.found.p for one in found.verdicts if one.found is not None and one.found.p is not None]
    assert min(raw) < 0.05, "seed 1000: at least one would be called a difference by itself"
    assert not {one.word for one in found.verdicts} & {"faster", "slower"}
    assert all((one.p_adjusted or 0) >= (one.found.p or 0) for one in found.verdicts if one.found)


def test_overall_is_the_geometric_mean_with_both_ends_and_what_gave_them() -> None:
    a, b = [], []
    for cell, ratio in (("slow", 2.0), ("fast", 0.5), ("same", 1.0)):
        a += runs({"latency_p50_s": noisy(0.01)}, cell=cell)
        b += runs({"latency_p50_s": noisy(0.01 * ratio)}, cell=cell, session=OTHER)
    (one,) = comparison(a, b).overall
    assert (one.metric, one.cells) == ("latency_p50_s", 3)
    assert one.ratio == pytest.approx(1.0)
    assert (one.highest.cell, one.highest.word, one.lowest.cell, one.lowest.word) == (
        "slow",
        "slower",
        "fast",
        "faster",
    )
    assert one.highest.ratio == pytest.approx(2.0)


def test_every_figure_is_the_one_of_its_own_cell_and_metric() -> None:
    """The sorted arrays against a plain loop over rows."""
    random = np.random.default_rng(5)
    rows: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    for side, session in (("a", "20261121T030000Z"), ("b", OTHER)):
        for cell in ("one", "two", "three"):
            figures = {m: (lambda _: float(random.lognormal())) for m in ("latency_p50_s", "load_s", "ttft_s")}
            rows[side] += runs(figures, cell=cell, session=session)
    for side in rows.values():
        side.sort(key=lambda row: (row["block"], row["metric"]))
    found = comparison(rows["a"], rows["b"])
    assert len(found.verdicts) == 9
    for one in found.verdicts:
        mine = {
            side: [row["value"] for row in of if (row["cell"], row["metric"]) == (one.cell, one.metric)]
            for side, of in rows.items()
        }
        assert one.found is not None
        by_hand = contrast(mine["a"], mine["b"], paired=False)
        assert one.found == dataclasses.replace(by_hand, detectable=nameable(by_hand, one.delta))
