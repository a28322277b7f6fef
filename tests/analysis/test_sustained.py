"""The speed of a long run: what is left at its end, when it fell, and how often it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from raw_run import BOOT, S, ar1, event, events_of, told

from melt.analysis.events import Asked, Float64s
from melt.analysis.measured import measure
from melt.analysis.sustained import NAMES, sustained

if TYPE_CHECKING:
    from melt.records import Event, Metric

SUSTAINED = Asked(mode="sustained")
N, EACH_S = 8000, 0.1


def of(events: list[Event], asked: Asked = SUSTAINED) -> dict[str, Metric]:
    read = told(events)
    return sustained(read, measure(read, asked), asked)


def run(slower: dict[float, float] | None = None, *, n: int = N, seed: int = 1) -> dict[str, Metric]:
    """A run with noise of 2 %, whose steps take so much longer from these seconds on (of a run not slowed)."""
    durations = EACH_S * np.exp(ar1(np.random.default_rng(seed), n, 0.5, 0.02))
    at_s = np.cumsum(durations)
    for begin_s, factor in (slower or {}).items():
        durations = np.where(at_s > begin_s, durations * factor, durations)
    return of(events_of(durations))


def test_it_is_told_of_sustained_cells_alone_and_from_ten_minutes_on() -> None:
    short = events_of(np.full(5000, EACH_S))
    assert of(short, Asked()) == {}
    found = of(short)
    assert set(found) == set(NAMES)
    assert all(str(metric.reason).startswith("window_too_short: the run measured 500 s") for metric in found.values())


def test_a_steady_run_keeps_its_speed() -> None:
    found = run()
    assert found["sustained_ratio"].value == pytest.approx(1, abs=0.02)
    assert str(found["time_to_10pct_drop_s"].reason).startswith("no_drop")
    assert found["change_points"].value == 0
    assert "one level throughout" in str(found["change_points"].note)


def test_a_drop_is_dated_and_sized() -> None:
    found = run({300: 1.25})
    assert found["sustained_ratio"].value == pytest.approx(1 / 1.25, abs=0.02)
    assert found["time_to_10pct_drop_s"].value == pytest.approx(300, abs=20)
    assert found["change_points"].value == 1
    assert "300 s (-20" in str(found["change_points"].note) or "300 s (-19" in str(found["change_points"].note)


def test_two_steps_are_two_change_points_and_a_small_one_is_none() -> None:
    assert run({200: 1.08, 500: 1.08})["change_points"].value == 2
    assert run({300: 1.015})["change_points"].value == 0


def test_noise_that_remembers_is_no_change_point() -> None:
    """Of 3 %, and a correlation of .8 over steps of half a second: a penalty six times smaller sees changes in 90 %."""
    found = [
        of(events_of(0.5 * np.exp(ar1(np.random.default_rng(seed), 1400, 0.8, 0.03))))["change_points"].value
        for seed in range(20)
    ]
    assert np.mean(np.array(found) == 0) >= 0.9


def test_a_slow_begin_is_no_drop() -> None:
    durations = np.where(np.arange(N) < 600, 0.15, 0.1)
    found = of(events_of(durations))
    assert str(found["time_to_10pct_drop_s"].reason).startswith("no_drop")
    assert found["sustained_ratio"].value == pytest.approx(1, abs=1e-6)


def answers(gaps_s: Float64s) -> list[Event]:
    """Requests of a hundred tokens, each after a prefill of 2 s in which no token is made."""
    t = BOOT + S
    found = [event(BOOT, "agent.begin"), event(t, "mark", name="measure.begin")]
    for i, own in enumerate(gaps_s.reshape(-1, 100)):
        found += [event(t, "step.begin", i=i), event(t, "prefill.begin", n=50)]
        t += 2 * S
        found.append(event(t, "prefill.end"))
        for token, gap_s in enumerate(own):
            found.append(event(t, "token", i=token))
            t += round(float(gap_s) * S)
        found.append(event(t, "step.end", i=i))
    return [*found, event(t, "mark", name="measure.end"), event(t + 1, "done")]


def test_of_a_language_model_it_is_the_rate_of_decoding_whatever_the_prompts_took() -> None:
    gaps_s = np.where(np.arange(7000) < 4000, 0.1, 0.125)
    found = of(answers(gaps_s))
    assert found["sustained_ratio"].value == pytest.approx(0.8, abs=1e-3)
    assert found["change_points"].value == 1
    assert "tokens" in str(found["sustained_ratio"].note)


def test_steps_too_long_to_be_counted_in_half_a_minute_have_no_curve() -> None:
    found = of(events_of(np.full(60, 20.0)))
    assert all(str(metric.reason).startswith("too_few_samples") for metric in found.values())
