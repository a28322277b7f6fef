"""One suite on this computer, itself over SSH, itself both ways over ADB, and an aarch64 Pi: one comparable report."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from melt.engines.wheels import onnxruntime_library
from melt.errors import UsageError
from melt.places import cache_dir

if TYPE_CHECKING:
    from adbd import AdbPeers
    from fakepi import FakePi
    from sshd import Sshd
    from workspace import Workspace

pytestmark = pytest.mark.peer

DEVICES = ("here", "board", "phone", "tablet", "pi")


@pytest.fixture
def bench(workspace: Workspace, sshd: Sshd, adb_peers: AdbPeers, pi: FakePi) -> Workspace:
    """A desk with five devices on it: a lab file, and the account's ~/.ssh/config."""
    try:
        onnxruntime_library("aarch64")
    except UsageError as error:
        pytest.skip(f"a suite over five devices is NOT tested: {error}")
    home = workspace.folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    lines = ("Host board", "HostName 127.0.0.1", f"Port {sshd.port}", f"IdentityFile {sshd.identity}")
    own = "\n".join((*lines, f"UserKnownHostsFile {sshd.known_hosts}\n"))
    (home / ".ssh" / "config").write_text(own + pi.config.read_text())
    server = adb_peers.server.environment
    names = ("ANDROID_ADB_SERVER_PORT", "ADB_MDNS", "ADB_LOCAL_TRANSPORT_MAX_PORT")
    workspace.environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(cache_dir().parent)}
    workspace.environment |= {name: server[name] for name in names}
    addresses = {
        "here": "local:",
        "board": "ssh://board",
        "phone": f"adb://{adb_peers.daemon.serial}",
        "tablet": f"adb+tcp://{adb_peers.daemon.serial}",
        "pi": "ssh://pi",
    }
    devices = {
        name: {"profile": "bare", "address": address, "workdir": str(workspace.folder / "devices" / name)}
        for name, address in addresses.items()
    }
    devices["pi"]["workdir"] = "/home/pi/five"
    workspace.write("lab.yaml", {"kind": "lab", "devices": devices})
    return workspace


def test_one_suite_over_five_devices_gives_one_report(bench: Workspace) -> None:
    protocol = {"preset": "quick", "runs": 2, "min_s": 0.6, "warmup_s": 0.0, "warmup_n": 1, "seed": 3}
    bench.suite(protocol=protocol)
    said = bench.run_on(*DEVICES)
    assert said.code == 0, said
    records = [run.record for run in bench.runs()]
    assert sorted((record.device, record.block) for record in records) == sorted(
        (device, block) for device in DEVICES for block in (0, 1)
    )
    assert all(record.usable for record in records)
    assert all(record.engine["output"]["agrees"] for record in records)
    # the same model, inputs, engine and parameters everywhere: what makes rows of one table comparable
    same = {tuple(sorted(map(str, record.fingerprint.hard.items()))) for record in records if record.device != "pi"}
    assert len(same) == 1
    on_pi = next(record for record in records if record.device == "pi").fingerprint.hard
    here = next(record for record in records if record.device == "here").fingerprint.hard
    assert {key for key in here if here[key] != on_pi[key]} <= {"machine", "core_clusters", "governor"}
    (report,) = bench.results.glob("faults/*/report")
    rows = list(csv.DictReader((report / "runs.csv").read_text().splitlines()))
    medians = [row for row in rows if row["metric"] == "latency_p50_s"]
    assert sorted(row["device"] for row in medians) == sorted(2 * DEVICES)
    assert all(float(row["value"]) > 0 and row["counts"] == "true" for row in medians)
    markdown = (report / "report.md").read_text()
    assert all(device in markdown for device in DEVICES)
    assert bench.processes() == []


def test_language_models_run_wherever_a_link_leads(bench: Workspace) -> None:
    for quant in ("q4_0", "q8_0"):
        bench.write(
            f"{quant}.yaml",
            {
                "kind": "workload",
                "name": f"llm-{quant}",
                "engine": "llama.cpp",
                "model": {"make": "llm-toy", "quant": quant},
                "mode": "fixed",
                "prompt_tokens": 32,
                "generate_tokens": 17,
            },
        )
    protocol = {"preset": "quick", "runs": 3, "min_s": 0.3, "warmup_s": 0.0, "warmup_n": 1, "seed": 3}
    bench.suite(workloads=["q4_0.yaml", "q8_0.yaml", "ceiling"], protocol=protocol)
    said = bench.run_on(*DEVICES, limit_s=600)
    assert said.code == 0, said
    records = [run.record for run in bench.runs()]
    assert len(records) == 3 * 3 * len(DEVICES)
    assert all(record.usable for record in records)
    for record in records:
        if record.workload == "ceiling":
            assert record.metrics["read_bytes_per_s"].value, record.device
            continue
        for name in (
            "decode_tok_per_s",
            "prefill_tok_per_s",
            "ttft_s",
            "itl_p50_s",
            "peak_memory_bytes",
            "kv_bytes",
            "load_warm_s",
        ):
            assert record.metrics[name].value, (record.device, name, record.metrics[name])
        assert record.metrics["inferences_per_s"].value, "a request is an inference"
        assert record.metrics["engine_cpu_share"].value
        assert record.metrics["generated_tokens"].value % 17 == 0
        assert record.metrics["generated_tokens"].value >= 64
    # the same weights and the same prompt give the same tokens, whichever way the device was reached
    models = [record for record in records if record.workload != "ceiling"]
    outputs = {(record.cell, record.engine["output"]["sha256"]) for record in models if record.device != "pi"}
    assert len(outputs) == 2
    assert {record.engine["level"] for record in models if record.device == "pi"} == {"armv8-a"}
    report = next(bench.results.glob("faults/*/report"))
    markdown = (report / "report.md").read_text()
    for header in ("decode [95 % interval], tok/s", "prefill, tok/s", "between tokens p95", "bandwidth share"):
        assert header in markdown
    told = json.loads((report / "report.json").read_text())["cells"]
    shares = {
        (cell["device"], cell["cell"]): cell["metrics"]["bandwidth_share"]
        for cell in told
        if cell["kind"] == "generate"
    }
    assert len(shares) == 2 * len(DEVICES)
    assert all(share["value"] and share["low"] for share in shares.values()), shares
    assert bench.processes() == []
