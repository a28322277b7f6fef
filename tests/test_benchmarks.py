"""The harness of the figures: what is measured in which order, what is printed, and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
from typing import TYPE_CHECKING

import pytest

from benchmarks import energy_figures, gate_figures, statistics_figures, throttle_figures
from benchmarks.__main__ import FIGURES, main
from benchmarks.harness import Figure, Result, Round, carry_out, choose
from benchmarks.peers import environment, needed
from benchmarks.transfer import interleaved_ratio
from melt.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness import Bounds


def fixed(name: str, *values: float, target: Bounds = (None, None)) -> Figure:
    """A figure whose rounds give these values."""
    return Figure(name, "s", target, len(values), lambda this: values[this.number])


def broken(name: str, after: int) -> Figure:
    """A figure of five rounds whose measurement fails after so many of them."""

    def measure(this: Round) -> float:
        if this.number >= after:
            raise DeviceError("the engine is gone\nand more is said of it")
        return 1.0

    return Figure(name, "s", (None, 2.0), 5, measure)


def called(figures: dict[str, Figure], *argv: str) -> tuple[int, list[dict[str, object]], str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(argv, figures, out, err)
    return code, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


def test_the_value_is_the_median_of_the_rounds() -> None:
    (result,) = carry_out([fixed("odd", 9.0, 1.0, 2.0)])
    assert (result.value, len(result.values)) == (2.0, 3)
    assert carry_out([fixed("even", 4.0, 1.0, 2.0, 9.0)])[0].value == 3.0


@pytest.mark.parametrize(
    ("value", "target", "ok"),
    [
        (1.0, (None, 1.0), True),
        (1.001, (None, 1.0), False),
        (0.98, (0.98, 1.02), True),
        (0.979, (0.98, 1.02), False),
        (1.021, (0.98, 1.02), False),
        (5.0, (4.0, None), True),
        (3.0, (4.0, None), False),
        (-7.0, (None, None), True),
    ],
)
def test_a_target_includes_its_ends_and_nothing_beyond(value: float, target: Bounds, ok: bool) -> None:
    assert Result(fixed("any", value, target=target), (value,)).ok is ok


def test_rounds_are_interleaved_between_the_figures() -> None:
    order: list[str] = []

    def noting(name: str, rounds: int) -> Figure:
        def measure(this: Round) -> float:
            order.append(f"{name}{this.number}")
            return 0.0

        return Figure(name, "s", (None, None), rounds, measure)

    carry_out([noting("a", 3), noting("b", 2), noting("c", 3)])
    assert order == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "c2"]


def test_a_figure_keeps_its_folder_from_round_to_round_and_leaves_nothing() -> None:
    seen = []

    def measure(this: Round) -> float:
        seen.append(this.folder)
        (this.folder / str(this.number)).touch()
        return float(len(list(this.folder.iterdir())))

    first, other = carry_out([Figure(name, "s", (None, None), 3, measure) for name in ("first", "other")])
    assert first.values == other.values == (1.0, 2.0, 3.0)
    assert len(set(seen)) == 2
    assert not any(folder.parent.exists() for folder in seen)


def test_a_failed_figure_is_null_with_its_reason_and_the_others_are_measured() -> None:
    code, lines, err = called({"a": broken("a", after=2), "b": fixed("b", 1.0, 1.0, 1.0, 1.0)})
    assert code == 1
    assert lines[0] == {
        "name": "a",
        "value": None,
        "unit": "s",
        "target": [None, 2.0],
        "ok": False,
        "n": 2,
        "reason": "DeviceError: the engine is gone",
    }
    assert (lines[1]["value"], lines[1]["n"]) == (1.0, 4)
    assert err.count("the engine is gone") == 1


def test_a_round_that_gives_no_number_fails_the_figure() -> None:
    (result,) = carry_out([fixed("a", 1.0, float("nan"))])
    assert result.value is None
    assert not result.ok
    assert json.loads(result.line())["value"] is None


def test_each_line_is_one_json_object_with_the_agreed_keys() -> None:
    code, lines, _ = called({"a": fixed("a", 0.123456, target=(None, 0.5)), "b": fixed("b", 7.0, target=(1.0, 2.0))})
    assert code == 0
    assert lines == [
        {"name": "a", "value": 0.1235, "unit": "s", "target": [None, 0.5], "ok": True, "n": 1},
        {"name": "b", "value": 7.0, "unit": "s", "target": [1.0, 2.0], "ok": False, "n": 1},
    ]


def test_rounding_for_print_does_not_decide_about_the_target() -> None:
    result = Result(fixed("a", 1.00001, target=(None, 1.0)), (1.00001,))
    assert json.loads(result.line())["value"] == 1.0
    assert json.loads(result.line())["ok"] is False


@pytest.mark.parametrize("argv", [("c", "a"), ("c a",)])
def test_names_choose_figures_in_the_registrys_order(argv: tuple[str, ...]) -> None:
    code, lines, _ = called({name: fixed(name, 1.0) for name in ("a", "b", "c")}, *argv)
    assert (code, [line["name"] for line in lines]) == (0, ["a", "c"])


def test_an_unknown_name_measures_nothing_and_names_the_nearest() -> None:
    code, lines, err = called(dict(FIGURES), "ort_fidelity", "agent_cpu_shear")
    assert (code, lines) == (2, [])
    assert "agent_cpu_shear" in err
    assert "did you mean 'agent_cpu_share'?" in err
    with pytest.raises(UsageError):
        choose(FIGURES, ["nothing"])


def test_every_promised_figure_is_there_with_its_target() -> None:
    assert {figure.name: (figure.unit, figure.target) for figure in FIGURES.values()} == {
        "agent_cpu_share": ("1", (None, 0.008)),
        "agent_late_p99_s": ("s", (None, 0.003)),
        "ort_fidelity": ("1", (0.98, 1.02)),
        "run_overhead_local_s": ("s", (None, 1.0)),
        "run_overhead_ssh_s": ("s", (None, 2.0)),
        "run_overhead_adb_s": ("s", (None, 2.0)),
        "ssh_push_ratio": ("1", (0.65, None)),
        "ssh_pull_ratio": ("1", (0.65, None)),
        "adb_push_ratio": ("1", (0.95, None)),
        "adb_pull_ratio": ("1", (0.9, None)),
        "adb_tcp_push_ratio": ("1", (0.8, None)),
        "adb_tcp_pull_ratio": ("1", (0.5, None)),
        "repush_s": ("s", (None, 0.5)),
        "ssh_command_s": ("s", (None, 0.010)),
        "adb_command_s": ("s", (None, 0.030)),
        "adb_tcp_command_s": ("s", (None, 0.010)),
        "dead_peer_s": ("s", (None, 15.0)),
        "synth_1b_q4_s": ("s", (None, 15.0)),
        "synth_1b_q4_peak_bytes": ("bytes", (None, 5e8)),
        "runner_size_bytes": ("bytes", (None, 6e6)),
        "token_stamp_s": ("s", (None, 5e-6)),
        "llm_decode_fidelity": ("1", (0.98, 1.02)),
        "llm_prefill_fidelity": ("1", (0.98, 1.02)),
        "llm_observer_effect": ("1", (0.98, None)),
        "energy_error": ("1", (None, 0.01)),
        "energy_coverage": ("1", (0.95, None)),
        "phase_energy_error": ("1", (None, 0.03)),
        "throttle_recall": ("1", (0.99, None)),
        "throttle_false": ("1", (None, 0.01)),
        "slowed_recall": ("1", (0.95, None)),
        "slowed_false": ("1", (None, 0.01)),
        "state_restored": ("1", (1.0, 1.0)),
        "clock_bound_s": ("s", (None, 0.005)),
        "ci_coverage_min": ("1", (0.93, None)),
        "ci_coverage_max": ("1", (None, 0.97)),
        "aa_coverage_drift": ("1", (0.93, None)),
        "warmup_bias": ("1", (0.9, None)),
        "warmup_cap": ("1", (None, 0.05)),
        "analyse_scale": ("1", (None, 11.0)),
        "reindex_rate": ("1/s", (500.0, None)),
        "compare_speed_s": ("s", (None, 5.0)),
        "compare_without_index_s": ("s", (None, None)),
        "compare_peak_bytes": ("bytes", (None, 1e9)),
        "aa_alike_share": ("1", (0.95, None)),
        "ab_threads_right": ("1", (1.0, 1.0)),
        "ab_spin_right": ("1", (1.0, 1.0)),
        "gate_false_alarms": ("1", (None, 0.001)),
        "gate_power_8": ("1", (0.92, None)),
        "gate_power_5": ("1", (0.45, None)),
        "gate_false_alarms_same_night": ("1", (None, 0.004)),
    }
    # those of virtual time, or of a seed, give the same value in every round
    seeded = (energy_figures, throttle_figures, statistics_figures, gate_figures)
    one_round = {"llm_observer_effect", "aa_alike_share", *(one.name for module in seeded for one in module.FIGURES)}
    assert all(name == figure.name and (figure.rounds >= 3 or name in one_round) for name, figure in FIGURES.items())


def test_what_a_test_would_be_skipped_for_is_why_a_figure_fails() -> None:
    def measure(this: Round) -> float:
        with needed():
            pytest.skip("SSH is NOT tested: there is no sshd")
        return 1.0

    code, lines, _ = called({"a": Figure("a", "s", (None, 2.0), 3, measure), "b": fixed("b", 1.0)})
    assert (code, lines[0]["ok"], lines[0]["reason"]) == (1, False, "DeviceError: SSH is NOT tested: there is no sshd")
    assert lines[1]["value"] == 1.0


def test_the_environment_is_put_back_whatever_happens_meanwhile() -> None:
    before = dict(os.environ)
    with environment(MELT_THERE="before"):
        with contextlib.suppress(DeviceError), environment(MELT_THERE="now", MELT_NOT_THERE="now"):
            assert (os.environ["MELT_THERE"], os.environ["MELT_NOT_THERE"]) == ("now", "now")
            raise DeviceError("meanwhile")
        assert (os.environ["MELT_THERE"], "MELT_NOT_THERE" in os.environ) == ("before", False)
    assert dict(os.environ) == before


@pytest.mark.parametrize(("ours_s", "theirs_s", "ratio"), [(2.0, 1.0, 0.5), (1.0, 3.0, 3.0)])
@pytest.mark.parametrize("number", [0, 1])
def test_a_rate_beside_anothers_is_above_one_for_the_faster_whoever_begins(
    tmp_path: Path, number: int, ours_s: float, theirs_s: float, ratio: float
) -> None:
    order: list[str] = []

    def took_s(who: str, each_s: float) -> float:
        order.append(who)
        return each_s

    def ours(_: Path) -> float:
        return took_s("ours", ours_s)

    def theirs(_: Path) -> float:
        return took_s("theirs", theirs_s)

    assert interleaved_ratio(Round(number, tmp_path), ours, theirs) == ratio
    assert order == (["theirs", "ours", "ours", "theirs"] if number else ["ours", "theirs", "theirs", "ours"])
