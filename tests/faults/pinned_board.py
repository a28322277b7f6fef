"""A board whose profile holds what can be held, on this computer, and one run of a program there."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from melt.device import open_device
from melt.engines import Request, StopRules, engine_named
from melt.files import load_lab, load_suite
from melt.lab import begin_session, make_plan
from melt.run import Context, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from workspace import Workspace

    from melt.records import Sensor
    from melt.store import StoredRun

GOVERNOR = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
GPU = "/sys/class/devfreq/gpu/min_freq"


@dataclasses.dataclass(frozen=True)
class Board:
    """The files of a board below a folder, and a state of it that only a command sets."""

    root: Path
    mode: Path

    def path(self, name: str) -> Path:
        return self.root / name[1:]

    def values(self) -> dict[str, str]:
        """All that a run may change."""
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        return {str(path): path.read_text().strip() for path in (*files, self.mode)}


def make_board(workspace: Workspace) -> Board:
    """A board whose profile holds its governor, its clocks, its GPU's floor and its mode."""
    made = Board(workspace.folder / "board", workspace.folder / "mode")
    files = {
        GOVERNOR: "schedutil",
        **{GOVERNOR.replace("scaling_governor", name): "300000" for name in ("scaling_min_freq", "cpuinfo_min_freq")},
        **{GOVERNOR.replace("scaling_governor", name): "1800000" for name in ("scaling_max_freq", "cpuinfo_max_freq")},
        GPU: "100000000",
    }
    for name, text in files.items():
        made.path(name).parent.mkdir(parents=True, exist_ok=True)
        made.path(name).write_text(f"{text}\n")
    made.mode.write_text("15W\n")
    write_to = ["/bin/sh", "-c", f'echo "$1" > {made.mode}', "sh"]
    command = {"read": ["/bin/cat", str(made.mode)], "set": [*write_to, "MAXN"], "restore": [*write_to, "{old}"]}
    workspace.profile(
        pin={
            "governor": "performance",
            "cpu_hz": "max",
            "files": {"/sys/class/devfreq/*/min_freq": "800000000"},
            "commands": {"mode": {**command, "expect": "MAXN"}},
        }
    )
    device = {"profile": "bare", "address": "local:", "workdir": str(workspace.workdir), "sysroot": str(made.root)}
    workspace.write("lab.yaml", {"kind": "lab", "devices": {"here": device}})
    return made


def held(board: Board) -> bool:
    return board.path(GOVERNOR).read_text() == "performance\n" and board.mode.read_text() == "MAXN\n"


def short(workspace: Workspace, min_s: float = 0.2, **more: Any) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 1, "min_s": min_s, "warmup_s": 0.0, "warmup_n": 1}, **more)


def one_run(
    workspace: Workspace,
    engine_args: Sequence[str],
    *sensors: Sensor,
    cancelled: Callable[[], bool] = lambda: False,
    **limits: float,
) -> StoredRun:
    """One run of /bin/sh as the engine on the lab's device `here`, with these sensors beside its own."""
    folder = workspace.folder
    params = {"on_device": "/bin/sh", "args": list(engine_args)}
    workspace.write("toy.yaml", {"kind": "workload", "name": "toy", "engine": "command", "params": params})
    short(workspace, limits=limits)
    lab = load_lab(folder / "lab.yaml")
    plan = make_plan(*load_suite(str(folder / "suite.yaml")), lab, ("here",), {})
    session = begin_session(plan, workspace.results)
    spec = lab.device("here")
    with open_device("here", spec, lab.profile(spec)) as device:
        engine = engine_named("command")
        prepared = engine.prepare(Request("toy", None, device.machine, params, {}, StopRules(0.0, 1, 0.2, 11)))
        known = dataclasses.replace(device, sensors=(*device.sensors, *sensors))
        context = Context(session, known, engine, prepared, plan.cells[0].record, cancelled=cancelled)
        return carry_out(context, plan.order[0], 0.0)
