"""The pictures: there, of a sensible size, not blank, whatever the runs are called and however many there are."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_runs import BOARD, Made, session_of, store
from matplotlib.image import imread

from melt.analysis.summary import summarise
from melt.report import write_report
from melt.report.canvas import Page, drawable, style
from melt.report.distribution import Row, _density, draw_shape
from melt.report.raw import Latencies
from melt.report.select import Cell
from melt.store import read_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.report import Report

WEIRD = "$x^2$ \\frac{1}{ Ω日本語🙂\n" + "w" * 200


def report_on(root: Path, slots: Sequence[Made], title: str = "demo") -> Report:
    session = session_of(root, slots)
    for at, made in enumerate(slots):
        store(session, made, at)
    runs, unreadable = read_runs(root)
    return write_report(runs, unreadable, root / "report", title)


def check(report: Report, name: str) -> tuple[int, int]:
    """The PNG's width and height; it is one, drawn in more than one colour, with a PDF of one page beside it."""
    pixels = imread(io.BytesIO((report.folder / f"{name}.png").read_bytes()))
    height, width = pixels.shape[:2]
    shade = pixels[..., :3].mean(axis=2)
    inked = float((shade < 0.98).mean())
    assert 0.01 < inked < 0.7
    edges = np.concatenate([shade[0], shade[-1], shade[:, 0], shade[:, -1]])
    assert float(edges.min()) > 0.99, "something is cut off at an edge"
    pdf = (report.folder / f"{name}.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert b"CreationDate" not in pdf
    return width, height


def test_a_machine_without_a_sensor_still_gets_both_pictures(tmp_path: Path) -> None:
    slots = [Made(block=b, cell=c, p50_s=p) for b in range(3) for c, p in (("mobilenetv3", 0.012), ("vit-tiny", 0.04))]
    report = report_on(tmp_path, slots)
    assert [f.name for f in report.files][-4:] == ["latency.png", "latency.pdf", "trace.png", "trace.pdf"]
    for name in ("latency", "trace"):
        width, height = check(report, name)
        assert width == 1536
        assert 400 < height < 1600
    page = (report.folder / "report.md").read_text()
    assert "](latency.png)" in page
    assert "](trace.png)" in page


def test_a_device_with_sensors_gets_a_taller_trace(tmp_path: Path) -> None:
    bare = report_on(tmp_path / "bare", [Made(block=b) for b in range(3)])
    rich = report_on(tmp_path / "rich", [Made(block=b, rich=True, facts=BOARD) for b in range(3)])
    assert check(rich, "trace")[1] > check(bare, "trace")[1] + 3 * 100


def test_names_of_any_length_and_script_are_drawn_inside_the_picture(tmp_path: Path) -> None:
    slots = [
        Made(
            device=WEIRD + d,
            cell=f"{WEIRD}[{WEIRD}={n}]",
            p50_s=0.01 * n,
            block=b,
            absent={"thermal": WEIRD},
            facts={"soc": WEIRD},
        )
        for b in range(2)
        for n in (1, 40)
        for d in ("a", "b")
    ]
    report = report_on(tmp_path, slots, WEIRD)
    for name in ("latency", "trace"):
        check(report, name)


def test_many_cells_go_on_several_pages_and_a_page_of_an_older_report_does_not_stay(tmp_path: Path) -> None:
    cells = [f"mlp[threads={n}]" for n in range(1, 10)]
    slots = [Made(device=f"board-{d}", cell=c, p50_s=0.05, measured_s=0.7) for d in range(2) for c in cells]
    report = report_on(tmp_path, slots)
    pages = sorted(f.name for f in report.files if f.suffix == ".png")
    assert pages == ["latency-2.png", "latency.png", "trace-2.png", "trace.png"]
    check(report, "latency-2")
    runs, _ = read_runs(tmp_path)
    again = write_report(runs[:1], [], report.folder, "demo")
    assert sorted(f.name for f in report.folder.glob("*.png")) == ["latency.png", "trace.png"]
    assert {f.name for f in report.folder.iterdir()} == {f.name for f in again.files}


def test_latencies_far_apart_are_drawn_on_a_logarithmic_scale(tmp_path: Path) -> None:
    slots = [
        Made(block=b, cell=c, p50_s=p, measured_s=2) for b in range(3) for c, p in (("mlp", 0.0008), ("vit-tiny", 0.1))
    ]
    check(report_on(tmp_path, slots), "latency")


def test_latencies_whose_range_begins_at_nothing_are_drawn_all_the_same(tmp_path: Path) -> None:
    """With room beside them the least begin at 0, which has no logarithm."""
    values = np.linspace(0.01, 0.19, 400)
    run = store(session_of(tmp_path, [Made(p50_s=0.1)]), Made(p50_s=0.1))
    cell = Cell("demo", "local", "net", "net", used=(run,))
    row = Row(cell, "#000000", summarise([0.1]), (Latencies(400, values),), None)
    with style():
        figure, axes = plt.subplots()
        draw_shape(axes, row)
        figure.canvas.draw()
        assert axes.get_xscale() == "linear"
        assert axes.get_xlim()[0] == 0
        plt.close(figure)


@pytest.mark.peer
def test_what_is_left_out_of_the_pictures_is_said(tmp_path: Path) -> None:
    slots = [Made(cell=f"mlp[threads={n}]", p50_s=0.05, measured_s=0.7) for n in range(1, 99)]
    report = report_on(tmp_path, slots)
    assert "The latency picture shows 96 of 98 cells; all of them are in runs.csv." in report.notes
    assert report.notes[0] in (report.folder / "report.md").read_text()


def test_drawing_leaves_matplotlibs_settings_as_they_were(tmp_path: Path) -> None:
    before = mpl.rcParams.copy()
    report_on(tmp_path, [Made()])
    assert mpl.rcParams.copy() == before


def test_without_matplotlib_the_report_is_written_and_says_what_to_install(tmp_path: Path) -> None:
    session = session_of(tmp_path, [Made()])
    store(session, Made(), 0)
    # a real interpreter in which the package cannot be found
    program = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.partition('.')[0] == 'matplotlib': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from pathlib import Path\n"
        "from melt.report import write_report\n"
        "from melt.store import read_runs\n"
        "report = write_report(*read_runs(Path(sys.argv[1])), Path(sys.argv[2]), 'demo')\n"
        "print(*report.notes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(tmp_path / "report")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'melt[report]'" in done.stdout
    assert "pip install 'melt\\[report\\]'" in (tmp_path / "report" / "report.md").read_text()
    assert {f.name for f in (tmp_path / "report").iterdir()} == {"report.md", "runs.csv", "report.json"}


@pytest.mark.parametrize("most", [0.5, 1.0, 3.0])
def test_a_text_is_cut_to_the_room_it_has(most: float) -> None:
    with style():
        page = Page(4, 1)
        shown = page.fit("a rather long name of a device " * 4, most, 9, bold=True)
        assert shown.endswith("…")
        assert 0.7 * most < page.measure(shown, 9, bold=True) <= most
        assert page.fit("short", 3.0, 9) == "short"


def test_characters_that_the_font_lacks_are_replaced() -> None:
    assert drawable("Ωa日🙂\n$x$") == "Ωa□□ $x$"


def test_a_density_integrates_to_the_share_of_samples_in_view() -> None:
    values = np.random.default_rng(3).normal(10, 1, 4000)
    grid = np.linspace(5, 15, 400)
    curve = _density(values, grid)
    assert float(np.trapezoid(curve, grid)) / np.sqrt(2 * np.pi) == pytest.approx(1, abs=0.01)
    assert grid[int(curve.argmax())] == pytest.approx(10, abs=0.4)
