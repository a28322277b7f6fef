"""From files to cells and blocks: every cell once a block, in a seeded order, and a bounded number of runs."""

from __future__ import annotations

import collections
import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.errors import UsageError
from melt.files import PRESETS, load_lab, load_suite
from melt.lab.plan import MOST_RUNS, Plan, make_plan


def file(folder: Path, kind: str, name: str, **data: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    own = {} if kind == "lab" else {"name": path.stem}
    path.write_text(yaml.safe_dump({"schema": 1, "kind": kind, **own, **data}, sort_keys=False), encoding="utf-8")
    return path


def workload(folder: Path, name: str, **data: Any) -> Path:
    return file(folder, "workload", name, engine="onnxruntime", model={"make": "mlp"}, **data)


def plan_of(folder: Path, *names: str, said: dict[str, Any] | None = None, **suite: Any) -> Plan:
    """The plan of a suite in `folder`, with the lab there if it has one."""
    lab = folder / "lab.yaml"
    path = file(folder, "suite", "suite", **suite)
    return make_plan(*load_suite(str(path)), load_lab(lab if lab.exists() else None), names, said or {})


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder with three workloads and two devices."""
    for name in "abc":
        workload(tmp_path, name)
    device = {"profile": "linux", "address": "local:", "tags": ["all"]}
    file(tmp_path, "lab", "lab", devices={"pi5": device, "pixel": {**device, "tags": ["all"]}})
    return tmp_path


def blocks(plan: Plan) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = {}
    for slot in plan.order:
        found.setdefault((slot.device, slot.block), []).append(slot.cell)
    return found


@settings(max_examples=40, deadline=None)
@given(
    runs=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    sweep=st.dictionaries(
        st.sampled_from(["params.threads", "params.spin"]),
        st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
        max_size=2,
    ),
    seed=st.integers(0, 2**63),
)
def test_every_block_holds_each_cell_that_has_a_run_left_once(runs: list[int], sweep: Any, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, count in enumerate(runs):
            workload(folder, f"w{number}", protocol={"runs": count})
        plan = plan_of(folder, workloads=[f"w{n}" for n in range(len(runs))], sweep=sweep, protocol={"seed": seed})
    points = len(list(itertools.product(*sweep.values())))
    assert len(plan.cells) == len(runs) * points
    assert len(plan.order) == sum(runs) * points
    wanted = {cell.id: cell.setting("protocol.runs") for cell in plan.cells}
    for (_, block), cells in blocks(plan).items():
        assert sorted(cells) == sorted(cell for cell, count in wanted.items() if count > block)
    assert [slot.block for slot in plan.order] == sorted(slot.block for slot in plan.order)


def test_the_order_is_the_same_each_time_and_another_with_another_seed(three: Path) -> None:
    def order(seed: int) -> list[str]:
        return [s.cell for s in plan_of(three, workloads=[*"abc"], protocol={"seed": seed, "runs": 8}).order]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_the_order_differs_between_blocks_and_between_devices(three: Path) -> None:
    plan = plan_of(three, "pi5", "pixel", workloads=[*"abc"], protocol={"runs": 12})
    found = blocks(plan)
    for device in ("pi5", "pixel"):
        assert len({tuple(found[device, block]) for block in range(12)}) > 2
    assert [found["pi5", n] for n in range(12)] != [found["pixel", n] for n in range(12)]


def test_no_cell_stands_first_much_more_often_than_another(three: Path) -> None:
    found = blocks(plan_of(three, workloads=[*"abc"], protocol={"runs": 300}))
    first = collections.Counter(cells[0] for cells in found.values())
    assert all(60 <= first[name] <= 140 for name in "abc"), first


def test_a_devices_order_does_not_depend_on_the_others(three: Path) -> None:
    alone = plan_of(three, "pi5", workloads=[*"abc"])
    both = plan_of(three, "pixel", "pi5", workloads=[*"abc"])
    assert [s for s in both.order if s.device == "pi5"] == list(alone.order)
    assert both.devices == ["pi5", "pixel"], "in the lab's order, each once"


def test_the_cells_are_workloads_times_devices_times_the_sweep(three: Path) -> None:
    sweep = {"params.threads": [1, 2], "cpus": ["0", "0-1"]}
    plan = plan_of(three, workloads=["a", "b"], devices={"tags": ["all"]}, sweep=sweep)
    assert len(plan.cells) == len({(c.device, c.id) for c in plan.cells}) == 2 * 2 * 4
    cell = next(c for c in plan.cells if c.id == "b[threads=2,cpus=0-1]" and c.device == "pixel")
    assert (cell.setting("params.threads"), cell.setting("cpus")) == (2, "0-1")
    assert cell.resolved["cpus"].source == "suite suite"
    assert cell.record.workload == "b"


def test_a_sweeps_values_are_checked_as_a_files_are(three: Path) -> None:
    assert {c.setting("cpus") for c in plan_of(three, workloads=["a"], sweep={"cpus": [0, "1-2"]}).cells} == {
        "0",
        "1-2",
    }
    for value in ("3-1", "a", 1.5, True, "9999"):
        with pytest.raises(UsageError, match=r"suite\.yaml: sweep: key 'cpus'"):
            plan_of(three, workloads=["a"], sweep={"cpus": [value]})


def test_without_a_choice_this_computer_is_the_device(tmp_path: Path) -> None:
    workload(tmp_path, "a")
    assert plan_of(tmp_path, workloads=["a"]).devices == ["local"]


def test_devices_of_the_command_line_replace_those_of_the_suite(three: Path) -> None:
    assert plan_of(three, workloads=["a"], devices={"names": ["pi5"]}).devices == ["pi5"]
    assert plan_of(three, "local", workloads=["a"], devices={"names": ["pi5"]}).devices == ["local"]
    assert plan_of(three, "pi5", "pi5", workloads=["a"]).devices == ["pi5"]
    with pytest.raises(UsageError, match="did you mean 'pixel'"):
        plan_of(three, "pixle", workloads=["a"])
    with pytest.raises(UsageError, match="tag 'al': did you mean 'all'"):
        plan_of(three, workloads=["a"], devices={"tags": ["al"]})


def test_each_file_wins_over_the_one_below_it_and_is_named(tmp_path: Path) -> None:
    file(tmp_path / "device_profiles", "profile", "board", protocol={"seed": 1, "runs": 1, "min_n": 1}, cpus="1")
    device = {"profile": "board", "address": "local:", "protocol": {"runs": 3, "warmup_n": 3}, "cpus": "3"}
    file(tmp_path, "lab", "lab", devices={"pi5": device})
    workload(tmp_path, "a", protocol={"runs": 2, "min_n": 2, "warmup_n": 2}, params={"threads": 2, "spin": False})
    plan = plan_of(
        tmp_path, "pi5", workloads=["a"], params={"threads": 4}, protocol={"preset": "quick"}, said={"protocol.runs": 5}
    )
    resolved = {key: (found.value, found.source) for key, found in plan.cells[0].resolved.items()}
    assert resolved["protocol.runs"] == (5, "command line")
    assert resolved["params.threads"] == (4, "suite suite")
    assert resolved["cpus"] == ("3", "lab device pi5")
    assert resolved["protocol.warmup_n"] == (3, "lab device pi5")
    assert resolved["protocol.min_n"] == (2, "workload a")
    assert resolved["params.spin"] == (False, "workload a")
    assert resolved["protocol.seed"] == (1, "profile board")
    assert resolved["protocol.min_s"] == (PRESETS["quick"]["protocol.min_s"], "preset quick")
    assert resolved["limits.wall_s"] == (900.0, "default")


def test_a_cell_that_is_named_twice_is_refused(three: Path) -> None:
    workload(three / "sub", "a")
    for suite in (
        {"workloads": ["a", "a"]},
        {"workloads": ["a", "a.yaml"]},
        {"workloads": ["a", "sub/a.yaml"]},
        {"workloads": ["a"], "sweep": {"params.threads": [1, 1]}},
        {"workloads": ["a"], "sweep": {"params.threads": [1, "1"]}},
    ):
        with pytest.raises(UsageError, match=r"suite\.yaml: .*the same cell twice"):
            plan_of(three, **suite)


def test_a_key_that_is_swept_cannot_be_said_on_the_command_line(three: Path) -> None:
    with pytest.raises(UsageError, match=r"--set params\.threads: .*suite\.yaml sweeps that key"):
        plan_of(three, workloads=["a"], sweep={"params.threads": [1, 2]}, said={"params.threads": 4})


def test_the_command_lines_settings_are_checked(three: Path) -> None:
    for said, message in (
        ({"protocol.rnus": 3}, "--set: key 'protocol.rnus' is not known: did you mean 'runs'"),
        ({"protocol.runs": 0}, "--set: key 'protocol.runs'"),
        ({"protocol.preset": "fast"}, "--set: key 'protocol.preset' is 'fast', valid: 'quick', 'default' or 'paper'"),
    ):
        with pytest.raises(UsageError, match=message):
            plan_of(three, workloads=["a"], said=said)


def test_the_number_of_runs_is_bounded_before_they_are_spelled_out(three: Path) -> None:
    many = {f"params.p{n}": list(range(10)) for n in range(12)}  # 10^12 cells
    with pytest.raises(UsageError, match=f"more than {MOST_RUNS} runs"):
        plan_of(three, workloads=["a"], sweep=many)
    sweep = {"params.a": list(range(50)), "params.b": list(range(3))}
    with pytest.raises(UsageError, match=f"150000 runs, more than {MOST_RUNS}"):
        plan_of(three, workloads=["a"], sweep=sweep, protocol={"runs": 1000})


def test_an_engine_that_is_not_known_is_told_with_its_file(tmp_path: Path) -> None:
    file(tmp_path, "workload", "a", engine="onnxruntme", model={"make": "mlp"})
    with pytest.raises(UsageError, match=r"a\.yaml: there is no engine 'onnxruntme': did you mean 'onnxruntime'"):
        plan_of(tmp_path, workloads=["a"])


def test_what_a_plan_was_made_from_decides_its_digest(three: Path) -> None:
    suite = {"workloads": ["a", "sub/x.yaml", "sub/a.yaml"]}
    workload(three / "sub", "x")
    path = workload(three / "sub", "a")
    path.write_text(path.read_text(encoding="utf-8").replace("name: a", "name: a2"), encoding="utf-8")
    plan = plan_of(three, **suite)
    assert len(plan.sources) == 5, "two files of one name are both kept, and the profile"
    assert plan_of(three, **suite).sha256 == plan.sha256
    for changed in (three / "a.yaml", three / "sub" / "x.yaml", path):
        text = changed.read_text(encoding="utf-8")
        changed.write_text(f"{text}\n# another\n", encoding="utf-8")
        assert plan_of(three, **suite).sha256 != plan.sha256, changed
        changed.write_text(text, encoding="utf-8")


def test_the_shipped_demo_is_four_cells_of_three_runs() -> None:
    plan = make_plan(*load_suite("demo"), load_lab(None), (), {})
    assert [cell.id for cell in plan.cells] == ["mobilenetv3", "vit-tiny", "qwen2.5-0.5b", "ceiling"]
    assert (plan.devices, len(plan.order)) == (["local"], 12)
