"""A model and the device's own ceiling, really run on this computer, and what the report makes of them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from test_pictures import check

from melt.report import write_report
from melt.store import read_runs

if TYPE_CHECKING:
    from workspace import Workspace

pytestmark = pytest.mark.peer


def test_a_model_and_a_roofline_measured_here_meet_in_a_report(workspace: Workspace) -> None:
    request = {"prompt_tokens": 64, "generate_tokens": 33}
    base = {"kind": "workload", "engine": "llama.cpp", "model": {"make": "llm-toy", "quant": "q4_0"}, **request}
    workspace.write("toy-llm.yaml", {**base, "name": "toy-llm", "mode": "fixed"})
    workspace.write("toy-bench.yaml", {**base, "name": "toy-bench", "mode": "bench"})
    protocol = {"preset": "quick", "runs": 3, "min_s": 0.2, "warmup_s": 0.0, "warmup_n": 1, "seed": 3}
    # the ceiling in a session of its own: it is found from the model's
    workspace.suite(name="roof", workloads=["ceiling"], protocol={**protocol, "runs": 1})
    assert workspace.run().code == 0
    workspace.suite(name="models", workloads=["toy-llm", "toy-bench"], protocol=protocol)
    assert workspace.run().code == 0
    folder = next((workspace.results / "models").glob("*/report"))
    told = json.loads((folder / "report.json").read_text())
    cells = {cell["kind"]: cell for cell in told["cells"]}
    (roof,) = read_runs(workspace.results / "roof")[0]
    assert cells["generate"]["ceiling_runs"] == [roof.record.run_id]
    share = cells["generate"]["metrics"]["bandwidth_share"]
    best = roof.record.metrics["read_bytes_per_s"].value
    reads = cells["generate"]["metrics"]["decode_read_bytes_per_s"]
    assert share["value"] == pytest.approx(reads["value"] / best)
    assert share["low"] < share["value"] < share["high"]
    assert cells["bench"]["metrics"]["tg_tok_per_s"]["value"] > 0
    page = (folder / "report.md").read_text()
    assert f"run {roof.record.run_id} of suite roof" in page
    assert re.search(r"^\| device \| workload .* tg \[95 % interval\], tok/s \| pp, tok/s \|", page, re.MULTILINE)
    runs, unreadable = read_runs(workspace.results)
    whole = write_report(runs, unreadable, workspace.folder / "whole", "both")
    assert len(whole.tables) == 3
    check(whole, "roofline")
    check(whole, "trace")
