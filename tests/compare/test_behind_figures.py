"""What stands behind a verdict: partial runs, runs that do not count, values that are missing."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from made_index import index, noisy, runs

from melt.compare import Asked, Comparison, compared
from melt.report.compare_files import compare_csv, compare_data, compare_md, write_comparison
from melt.report.compare_picture import _foot
from melt.report.compare_table import overall_lines

if TYPE_CHECKING:
    from pathlib import Path

    from melt.compare import Verdict

OTHER = "20261122T030000Z"
LATENCY = {"latency_p50_s": noisy(0.01)}


def comparison(*sides: list[dict[str, Any]], **asked: Any) -> Comparison:
    indexes = {name: index(rows) for name, rows in zip(("before", "after"), sides, strict=False)}
    return compared(indexes, [], Asked(**asked))


def only(found: Comparison) -> Verdict:
    (one,) = found.verdicts
    return one


def bad(rows: list[dict[str, Any]], reasons: str, verdict: str = "partial", **more: Any) -> list[dict[str, Any]]:
    return [{**row, "verdict": verdict, "reasons": reasons, **more} for row in rows]


def test_partial_runs_are_told_with_their_reasons_in_everything_that_is_made(tmp_path: Path) -> None:
    a = bad(runs(LATENCY, n=2), "foreign_load") + runs(LATENCY, blocks=(2, 3, 4))
    b = bad(runs(LATENCY, session=OTHER, n=1), "foreign_load sensor_gap")
    b += bad(runs(LATENCY, session=OTHER, blocks=(1,)), "foreign_load") + runs(LATENCY, session=OTHER, blocks=(2, 3, 4))
    found = comparison(a, b)
    told = "partial runs are in the figures: 2 of 5 runs of a (foreign_load), "
    told += "2 of 5 runs of b (foreign_load, sensor_gap 1)"
    assert found.caveats == (told,)
    assert told in compare_md(found, ()).replace("\\", "")
    (row,) = csv.DictReader(io.StringIO(compare_csv(found)))
    assert told in row["caveats"]
    data = compare_data(found)
    assert data["caveats"] == data["cells"][0]["caveats"] == [told]
    assert told in _foot(found)[-1]
    write_comparison(found, tmp_path)


def test_of_several_cells_the_one_with_partial_runs_is_named() -> None:
    a = runs(LATENCY) + runs(LATENCY, cell="vit")
    b = bad(runs(LATENCY, session=OTHER), "throttled") + runs(LATENCY, cell="vit", session=OTHER)
    assert comparison(a, b).caveats == ("pi5 toy: partial runs are in the figures: 5 of 5 runs of b (throttled)",)
    assert comparison(runs(LATENCY), runs(LATENCY, session=OTHER)).caveats == ()


def test_of_many_cells_there_is_one_sum_and_each_line_of_the_csv_has_its_own() -> None:
    a, b = [], []
    for number in range(5):
        a += runs(LATENCY, cell=f"c{number}", n=6)
        b += bad(runs(LATENCY, cell=f"c{number}", session=OTHER, n=number + 1), "slowed")
        b += runs(LATENCY, cell=f"c{number}", session=OTHER, blocks=range(number + 1, 6))
    found = comparison(a, b)
    assert found.caveats == ("partial runs are in the figures: 15 of 60 runs (slowed)",)
    rows = list(csv.DictReader(io.StringIO(compare_csv(found))))
    assert "3 of 6 runs of b (slowed)" in next(row["caveats"] for row in rows if row["cell"] == "c2")


def test_of_several_sides_the_one_that_a_caveat_is_of_is_named() -> None:
    rows = runs(LATENCY) + runs(LATENCY, session=OTHER) + bad(runs(LATENCY, session="20261123T030000Z"), "swap")
    assert comparison(rows).caveats == (
        "20261123T030000Z: pi5 toy: partial runs are in the figures: 5 of 5 runs of b (swap)",
    )


def test_runs_that_do_not_count_are_a_caveat_of_their_side_unless_they_were_run_again() -> None:
    a, b = runs(LATENCY), runs(LATENCY, session=OTHER, blocks=(0, 1, 2))
    lost = bad(runs(LATENCY, session=OTHER, blocks=(3,)), "throttled", "invalid", counts=False)
    skipped = runs(LATENCY, session=OTHER, blocks=(4,))
    lost += bad(skipped, "precheck", "invalid", status="skipped", counts=False, metric=None, value=None)
    again = bad(runs(LATENCY, session=OTHER, blocks=(0,)), "charger", "invalid", counts=False, run_id="first-try")
    found = comparison(a, [*again, *b, *lost])
    assert found.caveats == ("runs that do not count: of b 1 invalid (throttled), 1 skipped (precheck)",)
    (note,) = found.notes
    assert note == (
        "runs that do not count: 1 run again later, 1 invalid (throttled), 1 skipped (precheck): 3 of pi5 toy"
    )
    assert only(found).found is not None
    assert (only(found).found.n_a, only(found).found.n_b) == (5, 3)  # type: ignore[union-attr]


def test_runs_that_count_and_lack_the_metric_are_told_with_the_reason() -> None:
    b = runs({"latency_p50_s": lambda block: None if block < 2 else 0.01 + block * 1e-5}, session=OTHER)
    one = only(comparison(runs(LATENCY), b))
    assert one.found is not None
    assert one.found.n_b == 3
    assert "2 of 5 runs of b have no latency_p50_s (no_sensor: made without it)" in one.caveats
    assert not any("have no" in text for text in only(comparison(runs(LATENCY), runs(LATENCY, session=OTHER))).caveats)


def test_sessions_of_other_suites_in_one_folder_are_told() -> None:
    rows = runs(LATENCY, suite="short") + runs(LATENCY, suite="long", session=OTHER)
    (caveat,) = comparison(rows).caveats
    assert caveat == "of other suites, short and long: how long and how often they measure may differ"


def test_an_axis_that_one_side_does_not_know_is_told() -> None:
    a, b = runs(LATENCY, hard={"governor": "performance"}), runs(LATENCY, session=OTHER, hard={"governor": None})
    assert comparison(a, b, axis="governor").caveats == (
        "governor is not known of b: that the sides differ in it is not shown",
    )
    c = runs(LATENCY, session=OTHER, hard={"governor": "powersave"})
    assert comparison(a, c, axis="governor").caveats == ()


def test_a_cell_whose_like_is_compared_with_its_own_suites_says_so() -> None:
    a = runs(LATENCY, suite="short") + runs(LATENCY, suite="long", session=OTHER)
    (alone,) = comparison(a, runs(LATENCY, suite="short", session="20261123T030000Z")).unmatched
    assert alone.side == "before"
    assert alone.why == "what is like it in after, toy, is compared with toy of suite short"


def test_two_sessions_say_that_what_nights_differ_by_is_not_in_the_interval() -> None:
    (caveat,) = only(comparison(runs(LATENCY), runs(LATENCY, session=OTHER))).caveats
    assert "what one session differs from another by anyway is not in its interval" in caveat


def test_what_no_cell_was_shown_to_be_is_not_told_as_so_many_times_as_fast() -> None:
    wild = {"latency_p50_s": noisy(0.011, 0.3, 9)}
    (line,) = overall_lines(comparison(runs({"latency_p50_s": noisy(0.01, 0.3)}), runs(wild, session=OTHER)))
    assert line.endswith("in the one cell (inconclusive)")
    (line,) = overall_lines(comparison(runs(LATENCY), runs({"latency_p50_s": noisy(0.02)}, session=OTHER)))
    assert line.endswith("in the one cell (slower), 0.500 times as fast")


def test_a_ratio_far_from_one_stays_short() -> None:
    found = comparison(runs({"latency_p50_s": noisy(1e-100)}), runs({"latency_p50_s": noisy(1e100)}, session=OTHER))
    (line,) = overall_lines(found)
    assert "1e+200" in line
    assert "times as fast" in line
    assert len(compare_md(found, ()).splitlines()) < 60
    assert max(map(len, compare_md(found, ()).splitlines())) < 900
    assert json.dumps(compare_data(found), allow_nan=False)


def test_detectable_is_told_of_what_gets_a_name_so_it_is_never_within_delta() -> None:
    one = only(comparison(runs(LATENCY), runs({"latency_p50_s": noisy(0.01, seed=2)}, session=OTHER), delta=0.1))
    assert one.found is not None
    assert one.found.detectable is not None
    assert 0.1 < one.found.detectable < 0.12
