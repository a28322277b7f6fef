"""Following a job."""

from __future__ import annotations

import json
import os
import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from agent_jobs import LIMIT_S, SLEEPS, WAITS, until

if TYPE_CHECKING:
    from pathlib import Path

    from agent_jobs import Bench, Job

pytestmark = pytest.mark.peer


def watching(job: Job) -> subprocess.Popen[bytes]:
    return subprocess.Popen([job.agent, "watch", job.folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_watcher_sees_each_state_up_to_the_end(bench: Bench) -> None:
    job = bench.job(engine=WAITS)
    job.start()
    engine = job.engine_pid()
    with watching(job) as watcher:
        assert watcher.stdout is not None
        first = json.loads(watcher.stdout.readline())
        assert (first["state"], first["phase"], first["engine_pid"]) == ("running", "engine", engine)
        job.go()
        rest, _ = watcher.communicate(timeout=LIMIT_S)
    assert watcher.returncode == 0
    last = json.loads(rest.splitlines()[-1])
    assert (last["state"], last["phase"], last["exit"], last["run_id"]) == ("done", "done", 0, "run-0")


def test_a_watcher_says_that_the_agent_is_dead(bench: Bench) -> None:
    job = bench.job(engine=SLEEPS)
    job.start()
    job.engine_pid()
    with watching(job) as watcher:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        job.kill()
        rest, _ = watcher.communicate(timeout=LIMIT_S)
    assert (watcher.returncode, rest.strip()) == (0, b'{"state":"dead"}')


def test_a_watcher_gives_a_sign_of_life_while_nothing_changes(bench: Bench) -> None:
    job = bench.job(engine=SLEEPS)
    job.start()
    job.engine_pid()
    with watching(job) as watcher:
        assert watcher.stdout is not None
        json.loads(watcher.stdout.readline())
        assert watcher.stdout.readline() == b"\n"
        watcher.kill()
    assert job.verb("stop", "10000").returncode == 0


def test_a_watcher_ends_when_nobody_listens(bench: Bench) -> None:
    job = bench.job(engine=SLEEPS)
    job.start()
    with watching(job) as watcher:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        watcher.stdout.close()
        assert watcher.wait(LIMIT_S) != 0
    assert job.verb("stop", "10000").returncode == 0


def test_many_watchers_see_the_same_end_of_a_killed_job(bench: Bench) -> None:
    job = bench.job(engine=SLEEPS)
    job.start()
    job.engine_pid()
    watchers = [watching(job) for _ in range(6)]
    job.kill()
    for watcher in watchers:
        said, _ = watcher.communicate(timeout=LIMIT_S)
        assert json.loads(said.splitlines()[-1])["state"] == "dead"


def test_the_status_is_whole_whenever_it_is_read(bench: Bench) -> None:
    job = bench.job(engine=("/bin/true",))
    job.start()
    until(lambda: job.status()["state"] == "done", "the job is done")  # every look parses the whole line


# ------------------------------------------------------------------------------------------------- probe


def probe(agent: Path, *globs: str | Path, timeout_ms: int = 5000) -> dict[str, dict[str, Any]]:
    argv = [agent, "probe", str(timeout_ms), *globs]
    done = subprocess.run(argv, capture_output=True, timeout=LIMIT_S, check=True)
    assert done.stderr == b""
    found = [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]
    return {entry["path"].encode("latin-1").decode(errors="surrogateescape"): entry for entry in found}


def test_a_probe_gives_back_every_byte(agent: Path, tmp_path: Path) -> None:
    data = {
        "all": bytes(range(256)),
        "empty": b"",
        "nul": b"a\0\0",
        "end": b"line\n",
        "random": random.Random(1).randbytes(9999),
    }
    for name, content in data.items():
        (tmp_path / name).write_bytes(content)
    found = probe(agent, f"{tmp_path}/*")
    assert {path.rpartition("/")[2]: entry["data"].encode("latin-1") for path, entry in found.items()} == data
    assert all(entry["ns"] > 0 for entry in found.values())


def test_a_probe_expands_patterns_at_every_level_and_names_each_file_once(agent: Path, tmp_path: Path) -> None:
    for name in ("zone0/temp", "zone1/temp", "zone1/type", "zone10/temp", "other/temp", ".hidden/temp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = probe(
        agent, f"{tmp_path}/zone*/t[ey]*", f"{tmp_path}/zone?/temp", f"{tmp_path}//*/temp", f"{tmp_path}/absent*/x"
    )
    names = [path.replace("//", "/").removeprefix(f"{tmp_path}/") for path in found]
    assert sorted(set(names)) == sorted(names)
    assert set(names) == {"zone0/temp", "zone1/temp", "zone1/type", "zone10/temp", "other/temp"}


@pytest.mark.parametrize("name", ["two words", "star*[x]?", "line\nend", 'quote"', "back\\slash", "ü漢🦜", "é" * 120])
def test_a_probe_finds_a_file_by_any_name(agent: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1")
    assert list(probe(agent, tmp_path / name)) == [str(tmp_path / name)]


def test_a_probe_tells_a_deep_name_in_full(agent: Path, tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["é" * 100] * 12)
    deep.mkdir(parents=True)
    (deep / "temp").write_text("1")
    assert list(probe(agent, deep / "temp")) == [str(deep / "temp")]


def test_what_cannot_be_read_is_an_error_in_its_place(agent: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "fine").write_text("1")
    (tmp_path / "gone").symlink_to(tmp_path / "absent")
    names = [tmp_path / name for name in ("pipe", "fine", "gone")]
    found = probe(agent, *names, tmp_path, "/no/such/file", "/proc/self/mem", timeout_ms=100)
    assert found.pop(str(tmp_path / "fine"))["data"] == "1"
    assert {path: entry["error"] for path, entry in found.items()} == {
        str(tmp_path / "pipe"): "hangs",
        str(tmp_path): "io: EISDIR",
        "/proc/self/mem": "io: EIO",
    }
    assert found[str(tmp_path / "pipe")]["ns"] >= 100_000_000


@pytest.mark.skipif(os.geteuid() != 0, reason="a denied file is NOT tested: only root may become somebody else")
def test_a_file_that_may_not_be_read_is_denied(agent: Path) -> None:
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    with agent.open("rb") as program:  # its folder may be closed to others
        argv = [f"/proc/self/fd/{program.fileno()}", "probe", "1000", "/etc/shadow"]
        done = subprocess.run(
            argv, capture_output=True, timeout=LIMIT_S, check=True, pass_fds=[program.fileno()], **nobody
        )
    assert json.loads(done.stdout)["error"] == "denied"


def test_a_probe_reads_65536_bytes_of_a_larger_file(agent: Path, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(100_000)
    (tmp_path / "large").write_bytes(data)
    (entry,) = probe(agent, tmp_path / "large").values()
    assert entry["data"].encode("latin-1") == data[:65_536]


@pytest.mark.parametrize("argv", [["0", "/x"], ["60001", "/x"], ["soon", "/x"], ["100"]])
def test_a_probe_without_a_sensible_limit_or_a_path_is_refused(agent: Path, argv: list[str]) -> None:
    done = subprocess.run([agent, "probe", *argv], capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


# -------------------------------------------------------------------------------------------------- list
