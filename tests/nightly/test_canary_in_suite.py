"""A suite's `canary`: a workload of it, by name, that its sessions keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from melt.errors import UsageError
from melt.files import load_lab, load_suite
from melt.lab import begin_session, make_plan
from melt.store import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from melt.lab import Plan


def plan_of(folder: Path, **suite: Any) -> Plan:
    model = {"engine": "onnxruntime", "model": {"make": "mlp"}}
    files: dict[str, dict[str, Any]] = {
        "net": {"kind": "workload", "name": "net", **model},
        "frozen-file": {"kind": "workload", "name": "frozen", **model},
        "suite": {"kind": "suite", "name": "suite", "workloads": ["net", "frozen-file.yaml"], **suite},
    }
    for name, data in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"schema": 1, **data}))
    return make_plan(*load_suite(str(folder / "suite.yaml")), load_lab(None), (), {})


def test_a_session_keeps_the_canaries_of_its_suite(tmp_path: Path) -> None:
    session = begin_session(plan_of(tmp_path, canary=["frozen"]), tmp_path / "results")
    assert open_session(session.path).record.canary == ("frozen",)
    assert begin_session(plan_of(tmp_path), tmp_path / "results").record.canary == ()


def test_a_canary_is_no_setting_of_a_run(tmp_path: Path) -> None:
    cells = plan_of(tmp_path, canary=["frozen"]).cells
    assert not any("canary" in key for cell in cells for key in cell.resolved)


def test_a_canary_that_is_no_workload_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"suite\.yaml: canary 'frosen' is no workload .*did you mean 'frozen'"):
        plan_of(tmp_path, canary=["frosen"])
