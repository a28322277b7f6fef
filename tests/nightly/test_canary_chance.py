"""How often a canary that stands still quarantines its device, and that one that drifts does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from nightly.made_nights import Nights

from melt.analysis.gate import Night, SessionValues, gate
from melt.history.nights import Series
from melt.nightly import Judged, judge
from melt.nightly.canary import FALSE_NIGHTS, only_odd, quarantines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIGURES = 8


def canary(random: np.random.Generator, nights: int, *, drift: float = 1.0, since: int = 1) -> list[Judged]:
    """The canary of one device: figures with 1 % between nights and 2 % between five runs, the last nights changed."""
    day = 0.01 * random.standard_normal((nights, 1, FIGURES))
    values = np.exp(day + 0.02 * random.standard_normal((nights, 5, FIGURES)))
    values[-since:] *= drift
    found = []
    for figure in range(FIGURES):
        each = tuple(
            Night((SessionValues(f"{night:02d}", tuple(values[night, :, figure].tolist())),)) for night in range(nights)
        )
        finding = gate(each)
        series = Series("pi5", "frozen", f"m{figure}_s", "s", None, each, ())
        found.append(Judged(series, finding, finding.found, None, canary=True))
    return found


@pytest.mark.parametrize("nights", [9, 15])
def test_a_device_that_stands_still_is_quarantined_in_one_night_of_a_hundred_at_most(nights: int) -> None:
    random = np.random.default_rng(20_261_121)
    devices = [canary(random, nights) for _ in range(600)]
    assert sum(bool(quarantines(one)) for one in devices) / len(devices) <= FALSE_NIGHTS
    odd = [one for one in devices if any(figure.outside for figure in one)]
    assert len(odd) > 2 * FALSE_NIGHTS * len(devices)  # a rule that asks for less would quarantine these
    told = [only_odd(one) for one in odd if not quarantines(one)]
    assert all(len(lines) == 1 and "not quarantined" in lines[0] for lines in told)


@pytest.mark.parametrize(("drift", "since", "least"), [(1.15, 1, 0.99), (1.08, 1, 0.9), (1.05, 2, 0.85)])
def test_a_device_that_drifts_is_quarantined(drift: float, since: int, least: float) -> None:
    random = np.random.default_rng(7)
    devices = [canary(random, 16, drift=drift, since=since) for _ in range(100)]
    assert np.mean([bool(quarantines(one)) for one in devices]) >= least


def test_what_the_canary_shows_is_short_and_the_least_likely_first() -> None:
    found = canary(np.random.default_rng(3), 15, drift=1.15)
    (device,) = quarantines(found)
    assert device.why.count("canary frozen changed in") == 3
    assert f"and {sum(one.outside for one in found) - 3} more of its figures" in device.why


WOBBLE = [0.97, 1.03, 0.98, 1.02, 1.0, 0.96, 1.04, 1.01, 0.99, 1.02, 0.98, 1.03, 0.97, 1.0]


def test_a_device_that_drifts_does_not_let_chance_changes_of_others_pass_with_it(tmp_path: Path) -> None:
    """Its many changes are real, but quarantined: the share of false ones has to hold among those that are left."""
    made = Nights(tmp_path / "results" / "nightly", ("pi5", "orin"), blocks=3, canary=("frozen",))
    made.cells = ("frozen", *(f"net{number}" for number in range(40)))

    def factor(by: float, orin: float = 1.0) -> Callable[[str, str, str], float]:
        odd = ("pi5", "net0", "latency_p50_s")
        return lambda *key: by if key == odd else orin if key[0] == "orin" else 1.0

    for by in WOBBLE:
        made.night(factor=factor(by))
    made.night(factor=factor(1.125, orin=1.3))
    made.rerun(factor=factor(1.125, orin=1.3))
    result = judge(made.suite)
    assert [one.device for one in result.quarantined] == ["orin"]
    (odd,) = [
        one
        for one in result.judged
        if (one.series.device, one.series.cell, one.series.metric) == ("pi5", "net0", "latency_p50_s")
    ]
    assert (odd.state, result.of("confirmed"), result.exit_code(strict=False)) == ("suspect", [], 0)
    assert "by chance" in odd.finding.rule
    assert (odd.notable, result.confirm) == (False, None)


def test_canaries_tell_by_every_main_figure_whatever_is_judged(tmp_path: Path) -> None:
    made = Nights(tmp_path / "results" / "nightly", cells=("net", "frozen"), canary=("frozen",))
    made.nights(14)
    hot: Callable[[str, str, str], float] = lambda _d, cell, metric: (  # noqa: E731
        1.15 if (cell, metric) in (("frozen", "latency_p50_s"), ("net", "load_s")) else 1.0
    )
    made.nights(2, factor=hot)
    result = judge(made.suite, metrics=["load_s"])
    assert [one.device for one in result.quarantined] == ["pi5"]
    assert {one.state for one in result.judged if not one.canary} == {"quarantined"}
    assert {one.series.metric for one in result.judged if not one.canary} == {"load_s"}
