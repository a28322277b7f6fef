"""The pictures of language models: the roof and what stands below it, and the parts of a request over time."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_llm import ANSWER, BYTES, PROMPT, REQUESTS, WEIGHTS, bench, blocks, model, roofline, score
from made_runs import BOARD, Made, session_of, store
from matplotlib.image import imread
from test_pictures import WEIRD, check, report_on

from melt.report import write_report
from melt.report.placing import Limits, along, spread
from melt.report.raw import raw
from melt.report.roof import points
from melt.report.select import select
from melt.store import read_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def pngs(report: Any) -> list[str]:
    return sorted(f.stem for f in report.files if f.suffix == ".png")


def kept(root: Path, slots: Sequence[Made]) -> None:
    session = session_of(root, slots)
    for at, made in enumerate(slots):
        store(session, made, at)


def test_a_device_with_a_ceiling_gets_a_picture_of_its_roof(tmp_path: Path) -> None:
    slots = [*blocks(model), *blocks(model, quant="q8_0", decode=15.0), *blocks(roofline)]
    slots += [*blocks(model, device="board", decode=9.0, facts=BOARD), roofline(device="board", best=9e9, facts=BOARD)]
    report = report_on(tmp_path, slots)
    assert pngs(report) == ["latency", "roofline", "roofline-2", "trace", "trace-2"]
    for name in pngs(report):
        width, height = check(report, name)
        assert width == 1536
        assert 400 < height < 1600
    assert "](roofline-2.png)" in (report.folder / "report.md").read_text()
    assert report.notes == ()


def test_a_report_of_models_alone_takes_an_older_roof_away(tmp_path: Path) -> None:
    report = report_on(tmp_path, [*blocks(model), roofline()])
    assert (report.folder / "roofline.pdf").exists()
    runs, _ = read_runs(tmp_path)
    of_models = [run for run in runs if run.record.cell != "roofline"]
    for run in runs:
        if run not in of_models:
            (run.path / "run.json").unlink()
    again = write_report(of_models, [], report.folder, "demo")
    assert not (report.folder / "roofline.pdf").exists()
    assert any("melt run workloads/roofline.yaml" in note for note in again.notes)


def test_a_roof_is_drawn_whatever_it_lacks_and_whatever_things_are_called(tmp_path: Path) -> None:
    slots = [*blocks(model, device=WEIRD, cell=WEIRD, decode=60.0), roofline(device=WEIRD, one=20e9, fp32=None)]
    slots += [model(device="b", decode=0.2, prefill=0.9, simulated=True, synthetic=False)]
    slots += [roofline(device="b", best=7e8, one=2e8, fp32=8e8, figures={"int8_madd_per_s": None}, simulated=True)]
    report = report_on(tmp_path, slots, WEIRD)
    for name in ("roofline", "roofline-2", "latency", "trace"):
        check(report, name)


def test_many_cells_go_on_several_pages(tmp_path: Path) -> None:
    cells = [f"tinyllama[threads={n}]" for n in range(7)]
    slots = [model(cell=cell, decode=20.0 + at, prefill=100.0 + at) for at, cell in enumerate(cells)]
    report = report_on(tmp_path, [*slots, roofline()])
    assert [name for name in pngs(report) if name.startswith("roofline")] == ["roofline", "roofline-2"]
    assert check(report, "roofline")[1] > check(report, "roofline-2")[1]


def test_the_points_are_what_the_figures_say(tmp_path: Path) -> None:
    kept(tmp_path, [*blocks(model), *blocks(bench, figures=_weights()), *blocks(score), roofline()])
    selection = select(read_runs(tmp_path)[0])
    of_kinds = {cell.kind: points(cell) for cell in selection.cells}
    decode, prefill = of_kinds["generate"]
    each = 1 / BYTES["q4_0"]
    assert decode.intensity == pytest.approx(each, rel=0.02)
    assert decode.madd_per_s == pytest.approx(25 * WEIGHTS, rel=0.02)
    assert prefill.intensity == pytest.approx(PROMPT * each, rel=0.02)
    assert prefill.madd_per_s == pytest.approx(120 * WEIGHTS, rel=0.02)
    assert decode.interval is not None
    assert decode.interval[0] < decode.madd_per_s < decode.interval[1]
    assert [point.name for point in of_kinds["bench"]] == ["tg", "pp"]
    assert of_kinds["score"] == of_kinds["roofline"] == []


def _weights() -> dict[str, float]:
    return {"weight_count_per_token": float(WEIGHTS), "weight_bytes_per_token": WEIGHTS * BYTES["q4_0"]}


@pytest.mark.parametrize(("ubatch", "batch"), [(512, 256), (256, 256), (100, 256 / 3), (None, 256)])
def test_a_prompt_longer_than_a_batch_is_served_by_several_readings(
    tmp_path: Path, ubatch: int | None, batch: float
) -> None:
    kept(tmp_path, [model(settings={"params.ubatch": ubatch}), roofline()])
    (cell, _) = select(read_runs(tmp_path)[0]).cells
    decode, prefill = points(cell)
    assert prefill.intensity / decode.intensity == pytest.approx(batch)


def test_the_parts_of_each_measured_request_are_known(tmp_path: Path) -> None:
    kept(tmp_path, [model(), bench(), Made(block=1)])
    found = {one.kind: one for run in read_runs(tmp_path)[0] if (one := raw(run)) is not None}
    parts = found["generate"].stretches
    assert {name: len(windows) for name, windows in parts.items()} == {"prefill": REQUESTS, "decode": REQUESTS}
    took = {name: sum(end - begin for begin, end in windows) * 1e-9 for name, windows in parts.items()}
    assert took["prefill"] == pytest.approx(REQUESTS * PROMPT / 120, rel=0.05)
    assert took["decode"] == pytest.approx(REQUESTS * (ANSWER - 1) / 25, rel=0.05)
    assert [len(windows) for windows in found["bench"].stretches.values()] == [14, 14]
    assert found["infer"].stretches == {}


def test_prefill_is_shaded_apart_from_decode(tmp_path: Path) -> None:
    report = report_on(tmp_path, [model()])
    pixels = (imread(report.folder / "trace.png")[..., :3] * 255).round().astype(int)
    shades = [
        np.all(np.abs(pixels - np.array(shade)) <= 1, axis=2).mean() for shade in ((205, 234, 205), (228, 241, 250))
    ]
    assert min(shades) > 0.02, "one of the two is not there"


def test_a_request_that_died_in_its_prefill_is_no_part(tmp_path: Path) -> None:
    kept(tmp_path, [model()])
    (run,) = read_runs(tmp_path)[0]
    lines = (run.path / "events.jsonl").read_text().splitlines()
    last = max(at for at, line in enumerate(lines) if '"prefill.end"' in line)
    (run.path / "events.jsonl").write_text("\n".join(lines[:last]))
    found = raw(run)
    assert found is not None
    assert len(found.stretches["prefill"]) == REQUESTS - 1


# ------------------------------------------------------------------------------------------------ where words stand


@given(st.lists(st.floats(0, 4), min_size=1, max_size=12))
def test_labels_stand_apart_in_order_and_inside(wanted: list[float]) -> None:
    wanted.sort()
    places = spread(wanted, 0.3, 0.0, 4.0)
    assert len(places) == len(wanted)
    assert all(later - earlier > 0.3 - 1e-6 for earlier, later in itertools.pairwise(places))
    assert places[0] > -1e-6
    assert places[-1] < 4 + 1e-6


def test_labels_that_have_room_stand_where_they_belong() -> None:
    assert spread([0.5, 1.5, 3.0], 0.3, 0.0, 4.0) == [0.5, 1.5, 3.0]
    assert spread([1.0, 1.0], 0.4, 0.0, 4.0) == pytest.approx([0.8, 1.2])


def test_words_beside_a_line_keep_clear_of_the_points() -> None:
    line = ((0.0, 1.0), (5.0, 1.0))
    free = along(line, 1.0, [], below=False)
    assert (free.x, free.degrees) == (pytest.approx(2.5, abs=0.1), 0)
    assert free.y > 1.0
    moved = along(line, 1.0, [(2.5, 1.1)], below=False)
    assert moved.x + 0.5 < 2.5, "what leads from the point to the right is kept clear of as well"
    assert along(((0.0, 0.0), (3.0, 3.0)), 1.0, [], below=True).degrees == pytest.approx(45)


def test_a_place_on_logarithmic_axes() -> None:
    limits = Limits((1.0, 100.0), (10.0, 1000.0), 4.0, 2.0)
    assert limits.at(10.0, 100.0) == pytest.approx((2.0, 1.0))
    assert limits.at(1.0, 10.0) == (0.0, 0.0)
    assert math.isclose(limits.at(100.0, 1000.0)[1], 2.0)
