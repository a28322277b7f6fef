"""A small session and its runs, for the tests of the store; as a program, a melt that is killed at every step."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from melt import store
from melt.records import Clock, Fingerprint, Harness, Metric, Resolved, RunRecord, SuiteRef, Undo

RUN = "20260131T120000Z-00000001"


def slots(n: int = 3) -> tuple[store.Slot, ...]:
    return tuple(store.Slot(device="local", block=block, cell="small") for block in range(n))


def session_record(name: str = "20260131T115900Z", suite: str = "demo", n: int = 3) -> store.SessionRecord:
    cell = store.CellRecord(
        id="small", workload="small", device="local", resolved={"cpus": Resolved(value=None, source="default")}
    )
    return store.SessionRecord(
        session=name,
        suite=SuiteRef(name=suite, sha256="0" * 64),
        melt="0.1.0",
        cells=(cell,),
        order=slots(n),
        sources={"demo.yaml": "schema: 1\n"},
    )


def run_record(run_id: str = RUN, block: int = 0, **changes: Any) -> RunRecord:
    values: dict[str, Any] = {
        "melt": "0.1.0",
        "run_id": run_id,
        "session": "20260131T115900Z",
        "suite": SuiteRef(name="demo", sha256="0" * 64),
        "workload": "small",
        "cell": "small",
        "block": block,
        "device": "local",
        "profile": "linux",
        "profile_verified": True,
        "simulated": False,
        "synthetic_model": True,
        "started_utc": "20260131T120000Z",
        "resolved": {"params.threads": Resolved(value=1, source="suite demo")},
        "fingerprint": Fingerprint(hard={}, soft={}),
        "facts": {},
        "boot_id": None,
        "clock": Clock(),
        "status": "ok",
        "verdict": "valid",
        "reasons": (),
        "metrics": {"latency_s": Metric(value=0.5, n=11)},
        "engine": {},
        "sensors": {},
        "harness": Harness(),
        "undo": Undo(complete=True),
        "files": {},
    }
    return RunRecord.model_validate(values | changes)


def pending(run_id: str = RUN, block: int = 0) -> store.Pending:
    slot = store.Slot(device="local", block=block, cell="small")
    return store.Pending(
        run_id=run_id,
        slot=slot,
        started_utc="20260131T120000Z",
        address="local:",
        root="/nowhere/melt",
        idle_s=0.0,
        host={},
    )


def keep(session: store.Session, record: RunRecord) -> store.StoredRun:
    """A run with raw data, stored as melt does it."""
    with session.writing(record.run_id) as folder:
        (folder / "events.jsonl").write_bytes(b'{"t":2,"ev":"done"}\n{"t":1,"ev":"load.begin"}\n')
        (folder / "stderr.log").write_bytes(b"\xff\x00")
        return session.publish(folder, record)


def _one_run(root: Path, intended: int) -> None:
    session = store.new_session(root, session_record())
    with session.alone():
        session.intend(pending())
        os.write(intended, b"i")
        keep(session, run_record())
        session.settle(RUN)


def _killed_at(step: int, root: Path, intended: int) -> None:
    """In this process: one run of a new session, ended by SIGKILL before the file operation of that number."""
    seen = 0

    def count(event: str, _: Any) -> None:
        nonlocal seen
        if event in (
            "open",
            "os.mkdir",
            "os.rename",
            "os.remove",
            "os.rmdir",
            "os.scandir",
            "os.listdir",
            "os.truncate",
        ):
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(count)
    _one_run(root, intended)


def main(root: Path) -> None:
    """A process a step, each killed at its own, until one reaches the end: a folder each, and what it had done."""
    for step in range(1000):
        folder = root / f"{step:03d}"
        folder.mkdir()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _killed_at(step, folder, writing)
            os._exit(0)
        os.close(writing)
        intended = os.read(reading, 1) == b"i"
        os.close(reading)
        _, status = os.waitpid(child, 0)
        print(folder.name, "intended" if intended else "not", "killed" if os.WIFSIGNALED(status) else "ended")
        if not os.WIFSIGNALED(status):
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
