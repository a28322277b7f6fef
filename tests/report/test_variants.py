"""Which row of a cell a run stands in, and what the rows are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from made_runs import Made, session_of, skipped, store

from melt.records import Reason, ReasonCode
from melt.report import summary_tables
from melt.store import read_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KNOWN = {"workload": "mobilenetv3", "model_sha256": "ab" * 32, "inputs_sha256": "cd" * 32}
TOLD = {"engine_version": "1.31.1", "provider_nodes": {"CPUExecutionProvider": {"Conv": 62}}}
UNTOLD = {"engine_version": None, "provider_nodes": None}
CRASHED = (Reason(code=ReasonCode.CRASHED, detail="signal 11"),)


def made(cpus: str | None = None, *, ran: bool = True, **more: Any) -> Made:
    """A run whose engine told of itself, or one that ended before it did."""
    hard = {**KNOWN, **(TOLD if ran else UNTOLD), "cpus": cpus, **more.pop("hard", {})}
    if not ran:
        more = {"status": "failed", "reasons": CRASHED, **more}
    return Made(hard=hard, settings={"cpus": cpus, **more.pop("settings", {})}, measured_s=0.3, **more)


def rows(root: Path, *sessions: Sequence[Made], stored: int | None = None) -> Mapping[str, str]:
    """Variant to the text of the column runs; `stored` is how many runs of each session there are."""
    for number, slots in enumerate(sessions):
        session = session_of(root, slots, f"2026112{number}T030000Z")
        for at, one in enumerate(slots[:stored]):
            store(session, one, at)
    table = summary_tables(read_runs(root)[0])[0]
    found = {row.cells[1].removeprefix("mobilenetv3").removesuffix(" (synthetic)"): row.cells[2] for row in table.rows}
    assert len(found) == len(table.rows), "two rows have the same name"
    return {name.strip(" ()"): runs for name, runs in found.items()}


def test_a_run_that_failed_stands_with_the_settings_it_was_to_run_with(tmp_path: Path) -> None:
    found = rows(tmp_path, [made()], [made("900", ran=False)], [made(ran=False)], [made("0,0-1,0")])
    assert found == {"any CPU": "1/2", "CPUs 0,0-1,0": "1/1", "CPUs 900": "0/1"}


def test_limits_and_protocol_make_no_row_of_their_own(tmp_path: Path) -> None:
    timed_out = (Reason(code=ReasonCode.TIMED_OUT, detail="0.1 s"),)
    settings = {"limits.wall_s": 0.1, "protocol.min_s": 9.0}
    found = rows(tmp_path, [made(settings=settings, ran=False, reasons=timed_out)], [made(), made(block=1)])
    assert found == {"": "2/3"}


def test_runs_of_which_none_counts_are_one_row_for_each_setting(tmp_path: Path) -> None:
    assert rows(tmp_path, [made(ran=False)], [made(ran=False)], [made("1", ran=False)]) == {
        "any CPU": "0/2",
        "CPUs 1": "0/1",
    }


def test_a_failed_run_stands_with_the_engine_of_its_session(tmp_path: Path) -> None:
    newer = {"hard": {"engine_version": "1.32.0"}}
    found = rows(tmp_path, [made(), made(ran=False, block=1)], [made(**newer), made(**newer, block=1)])
    assert found == {"engine 1.31.1": "1/2", "engine 1.32.0": "2/2"}


def test_a_failed_run_that_might_be_of_two_rows_gets_a_third(tmp_path: Path) -> None:
    found = rows(tmp_path, [made()], [made(hard={"engine_version": "1.32.0"})], [made(ran=False)])
    assert found == {"engine 1.31.1": "1/1", "engine 1.32.0": "1/1", "engine not known": "0/1"}


def test_a_run_that_never_got_a_model_is_placed_by_its_settings(tmp_path: Path) -> None:
    def threads(number: int, **more: Any) -> Made:
        return made(hard={"threads": number}, settings={"params.threads": number}, **more)

    bare = Made(status="skipped", reasons=skipped(), hard={"threads": None}, settings={"params.threads": 2})
    found = rows(tmp_path, [threads(1)], [threads(2)], [bare])
    assert found == {"threads 1": "1/1", "threads 2": "1/2"}


def test_what_never_started_stands_with_its_sessions_settings(tmp_path: Path) -> None:
    slots = [[made(cpus, block=block) for block in range(3)] for cpus in ("0", "1")]
    assert rows(tmp_path, *slots, stored=1) == {"CPUs 0": "1/3", "CPUs 1": "1/3"}


@pytest.mark.parametrize(
    ("key", "values", "told"),
    [
        ("threads", (1, 2), ["threads 1", "threads 2"]),
        ("spin", (True, False), ["spin on", "spin off"]),
        ("governor", (None, "ondemand"), ["governor not known", "governor ondemand"]),
        ("model_sha256", ("ab" * 32, "cd" * 32), ["model abababab", "model cdcdcdcd"]),
        (
            "provider_nodes",
            ({"CPUExecutionProvider": {"Conv": 62}}, {"CPUExecutionProvider": {"Conv": 60}}),
            ["variant 1, provider coverage differs", "variant 2, provider coverage differs"],
        ),
        (
            "provider_options",
            ({"a": "1"}, {"a": "2"}),
            ["variant 1, provider options differ", "variant 2, provider options differ"],
        ),
        (
            "mode" * 30,
            ("x" * 200, "y" * 200),
            [f"variant 1, {('mode' * 30)[:23]}… differs", f"variant 2, {('mode' * 30)[:23]}… differs"],
        ),
    ],
)
def test_rows_are_told_apart_by_short_words(
    tmp_path: Path, key: str, values: tuple[Any, Any], told: Sequence[str]
) -> None:
    assert list(rows(tmp_path, *([made(hard={key: value})] for value in values))) == told


def test_many_differences_are_counted(tmp_path: Path) -> None:
    other = {"engine_version": "1.32.0", "threads": 2, "spin": False}
    found = rows(tmp_path, [made(hard={"spin": True})], [made("0", hard=other)])
    assert list(found) == ["any CPU, threads 1", "CPUs 0, threads 2 and 2 more"]


def test_each_of_many_rows_is_called_by_what_most_others_have_not(tmp_path: Path) -> None:
    coverage = {"provider_nodes": {"CPUExecutionProvider": {"Conv": 60}}}
    found = rows(
        tmp_path,
        [made()],
        [made(hard={"engine_version": "1.32.0"})],
        [made(hard={"threads": 2})],
        [made("0")],
        [made(hard=coverage)],
        [made(hard={"governor": "performance", "model_sha256": "ef" * 32})],
    )
    assert list(found) == [
        "any CPU, threads 1",
        "engine 1.32.0",
        "threads 2",
        "CPUs 0",
        "provider coverage differs",
        "governor performance, model efefefef",
    ]
