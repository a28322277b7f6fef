"""The roofline program, built and run: what it tells is well-formed, what it counts was done, what is wrong it says."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from melt import native
from melt.analysis.roofline import METRICS, repetitions, roofline
from melt.errors import UsageError
from melt.job import parse_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.peer

SOURCES = Path(__file__).parents[2] / "melt" / "ondevice" / "roofline"
KERNELS = Path(__file__).parent / "roofline_kernels.c"
LIMIT_S = 120
ELF_AARCH64 = 183
MIB = 1 << 20
SMALL = ("--bytes", str(4 * MIB), "--min-n", "2")
KINDS = tuple(METRICS)
ROUNDS = 1 << 14

Event = dict[str, Any]


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return native.build("roofline", native.host_machine(), here=True)
    except UsageError as error:
        pytest.skip(f"the roofline is NOT tested: {error}")


def run(
    program: Sequence[str | Path], events: Path, *argv: str, **more: Any
) -> tuple[subprocess.CompletedProcess[str], list[Event]]:
    done = subprocess.run(
        [*program, "--events", events, *argv], capture_output=True, text=True, timeout=LIMIT_S, check=False, **more
    )
    text = events.read_text() if events.exists() else ""
    assert text == "" or text.endswith("\n"), "every line is whole"
    return done, [json.loads(line) for line in text.splitlines()]


def well(program: Sequence[str | Path], events: Path, *argv: str, **more: Any) -> list[Event]:
    done, told = run(program, events, *argv, **more)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return told


def mark(told: Sequence[Event], name: str) -> Event:
    (found,) = (e for e in told if e["ev"] == "mark" and e["name"] == name)
    return found


def pairs(told: Sequence[Event]) -> list[tuple[Event, Event]]:
    """Begins and ends of repetitions: each end follows its own begin, and nothing stands between them."""
    of_roof = [e for e in told if e["ev"].startswith("roof.")]
    found = list(zip(of_roof[::2], of_roof[1::2], strict=True))
    for begin, end in found:
        assert (begin["ev"], end["ev"]) == ("roof.begin", "roof.end")
        assert {k: begin[k] for k in ("what", "threads", "i")} == {k: end[k] for k in ("what", "threads", "i")}
        assert begin.get("lead") == end.get("lead")
        assert begin["t"] < end["t"]
    return found


# ------------------------------------------------------------------------------------------------------- arguments


def test_trying_it_ends_at_once_and_well(program: Path) -> None:
    done = subprocess.run([program, "--try"], capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--threads", "0"), "--threads takes a whole number from 1 to 1024, not '0'"),
        (("--threads", "1025"), "--threads takes a whole number"),
        (("--threads", "-1"), "--threads takes a whole number"),
        (("--threads", "2x"), "--threads takes a whole number"),
        (("--threads", ""), "--threads takes a whole number"),
        (("--bytes", "1"), "--bytes takes a whole number from 262144"),
        (("--bytes", "9" * 30), "--bytes takes a whole number"),
        (("--min-n", "0"), "--min-n takes a whole number from 1"),
        (("--min-s", "nan"), "--min-s takes seconds"),
        (("--min-s", "1e9"), "--min-s takes seconds"),
        (("--warmup-s", "-1"), "--warmup-s takes seconds"),
        (("--warmup-s", "1.2.3"), "--warmup-s takes seconds"),
        (("--min-s",), "'--min-s' is unknown or lacks its value"),
        (("--speed", "1"), "unknown argument '--speed'"),
        (("--try",), "'--try' is unknown or lacks its value"),
    ],
)
def test_a_wrong_argument_is_told_in_one_sentence(
    program: Path, tmp_path: Path, argv: tuple[str, ...], told: str
) -> None:
    done, events = run([program], tmp_path / "events", *argv)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("roofline: ")
    assert told in done.stderr
    assert events == []


def test_events_are_needed_and_their_file_must_open(program: Path, tmp_path: Path) -> None:
    bare = subprocess.run([program], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (bare.returncode, bare.stderr) == (2, "roofline: --events is needed\n")
    done, _ = run([program], tmp_path / "no" / "events")
    assert done.returncode == 2
    assert "cannot open" in done.stderr


# ------------------------------------------------------------------------------------------------------ repetitions


def test_a_run_tells_its_phases_and_every_point_in_whole_pairs(program: Path, tmp_path: Path) -> None:
    told = well([program], tmp_path / "events", *SMALL, "--threads", "3", "--warmup-n", "4", "--warmup-s", "0.1")
    names = [e["name"] for e in told if e["ev"] == "mark"]
    assert names == ["engine", "providers", "warmup.begin", "measure.begin", "measure.end"]
    assert told[-1]["ev"] == "done"
    begin, end = mark(told, "measure.begin")["t"], mark(told, "measure.end")["t"]
    assert begin - mark(told, "warmup.begin")["t"] >= 100_000_000
    before = [pair for pair in pairs(told) if pair[0]["t"] < begin]
    assert len(before) >= 4
    assert all("lead" in pair[0] for pair in before), "what warms up is never taken for a measurement"
    points: dict[tuple[str, int], list[Event]] = {}
    for first, last in pairs(told)[len(before) :]:
        assert begin <= first["t"] < last["t"] <= end
        points.setdefault((first["what"], first["threads"]), []).append(last)
    assert list(points) == [(kind, n) for n in (1, 2, 3) for kind in KINDS]
    for found in points.values():
        leads = sum("lead" in e for e in found)
        assert leads >= 1
        assert all("lead" in e for e in found[:leads]), "what leads in comes first"
        assert [e["i"] for e in found] == [*range(leads), *range(len(found) - leads)]
        assert len(found) - leads >= 2


def test_what_a_repetition_tells_was_done_whole(program: Path, tmp_path: Path) -> None:
    told = well([program], tmp_path / "events", *SMALL, "--threads", "2")
    size = mark(told, "engine")["read_bytes"]
    assert size == 4 * MIB
    done: dict[str, set[int]] = {kind: set() for kind in KINDS}
    for _, end in pairs(told):
        done[end["what"]].add(end["bytes" if end["what"] == "read" else "madds"])
        assert ("bytes" in end) != ("madds" in end)
    assert all(n > 0 and n % size == 0 for n in done["read"]), "the whole buffer, once or more often"
    for kind in ("fp32", "int8"):
        assert all(n > 0 and n % ROUNDS == 0 for n in done[kind]), "whole blocks"
    last = [end for _, end in pairs(told) if "lead" not in end]
    assert {(e["what"], e["threads"]) for e in last} == {(kind, n) for kind in KINDS for n in (1, 2)}


def test_the_points_share_the_time_that_is_asked_for(program: Path, tmp_path: Path) -> None:
    told = well([program], tmp_path / "events", "--bytes", str(MIB), "--threads", "1", "--min-s", "1.5")
    by_kind = {kind: [p for p in pairs(told) if p[0]["what"] == kind and "lead" not in p[0]] for kind in KINDS}
    for kind, found in by_kind.items():
        assert found[-1][1]["t"] - found[0][0]["t"] >= 450_000_000, f"{kind} has its third, but for what it ended with"


def test_a_run_says_what_it_ran_on_and_with(program: Path, tmp_path: Path) -> None:
    one = min(os.sched_getaffinity(0))
    told = well([program], tmp_path / "events", *SMALL, preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    engine = mark(told, "engine")
    assert (engine["threads"], engine["cpus"]) == (1, 1), "all the processors that it may run on"
    assert engine["version"]
    assert all(engine[f"{kind}_isa"] for kind in KINDS)
    assert engine["cache_bytes"] is None or engine["cache_bytes"] > 0


def test_more_threads_than_processors_are_taken_and_recorded(program: Path, tmp_path: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    threads = max(cpus + 1, 20)
    argv = ("--bytes", str(MIB), "--min-n", "1", "--threads", str(threads))
    told = well([program], tmp_path / "events", *argv)
    assert (mark(told, "engine")["threads"], mark(told, "engine")["cpus"]) == (threads, cpus)
    counts = list(dict.fromkeys(first["threads"] for first, _ in pairs(told) if "lead" not in first))
    assert counts[:16] == list(range(1, 17))
    assert counts[-1] == threads
    assert all(b <= 2 * a for a, b in itertools.pairwise(counts)), "then doubled, up to the most"


def test_no_more_memory_is_taken_than_a_quarter_of_what_is_there_and_none_left_is_told(
    program: Path, tmp_path: Path
) -> None:
    available_kb = int(re.findall(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())[0])

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (64 * MIB, 64 * MIB))

    done, told = run([program], tmp_path / "events", "--bytes", str(1 << 45), "--threads", "1", preexec_fn=limit)
    size = mark(told, "engine")["read_bytes"]
    if available_kb < 512 * 1024:
        pytest.skip("running out of memory is NOT tested: there is hardly any")
    assert available_kb * 1024 / 8 < size < available_kb * 1024 / 2
    assert done.returncode == 3
    assert (told[-1]["ev"], told[-1]["kind"]) == ("error", "memory")
    assert str(size) in told[-1]["message"]
    assert done.stderr.startswith("memory: ")


def test_a_run_that_is_ended_midway_leaves_whole_lines_and_the_points_it_had(program: Path, tmp_path: Path) -> None:
    events = tmp_path / "events"
    argv = [program, "--events", events, "--bytes", str(MIB), "--threads", "1", "--min-n", "11", "--min-s", "60"]
    process = subprocess.Popen(argv)
    end = time.monotonic() + LIMIT_S
    try:
        while len(repetitions(parse_events(_open(events)).landmarks)) < 12:
            assert time.monotonic() < end, "nothing was repeated"
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == -signal.SIGTERM
    assert events.read_text().endswith("}\n")
    found = roofline(parse_events(_open(events)).landmarks)
    assert (found["read_bytes_per_s.t1"].value or 0) > 0
    assert found["int8_madd_per_s"].value is None


def _open(path: Path) -> io.BytesIO:
    return io.BytesIO(path.read_bytes() if path.exists() else b"")


def test_reading_is_as_fast_as_another_measure_says(program: Path, tmp_path: Path) -> None:
    """NumPy's sum reads the same amount with one thread: a lower bound, in turns because the machine is shared."""
    array = np.ones(256 * MIB // 8, dtype=np.int64)
    numpy_best = ours_best = 0.0
    for turn in range(3):
        for _ in range(4):
            began = time.perf_counter()
            total = int(array.sum())
            numpy_best = max(numpy_best, array.nbytes / (time.perf_counter() - began))
            assert total == array.size
        argv = ("--bytes", str(array.nbytes), "--threads", "1", "--min-n", "4")
        told = well([program], tmp_path / f"events{turn}", *argv)
        rates = [end["bytes"] / (end["t"] - begin["t"]) * 1e9 for begin, end in pairs(told) if begin["what"] == "read"]
        ours_best = max(ours_best, *rates)
    assert ours_best > numpy_best / 2
    assert ours_best < numpy_best * 20, "memory that is read costs time"


# ---------------------------------------------------------------------------------------------------------- kernels


def compiled(argv: Sequence[str], out: Path, *sources: Path) -> Path:
    words = [*argv, "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", *map(str, sources), "-o", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return out


def zig(machine: str) -> list[str]:
    pytest.importorskip("ziglang", reason=f"the kernels for {machine} by zig are NOT tested: ziglang is missing")
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-musl"]


def compilers(machine: str) -> dict[str, Callable[[], list[str]]]:
    return {"gcc": lambda: [_found("gcc")], "zig": lambda: zig(machine)}


def _found(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"the kernels by {name} are NOT tested: it is missing")
    return found


def counts(printed: str) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for line in printed.splitlines():
        kind, isa, count = line.split()
        found.setdefault((kind, isa), []).append(int(count))
    return found


def check_counts(found: dict[tuple[str, str], list[int]]) -> None:
    for (kind, isa), values in found.items():
        if kind == "read":
            assert values == [n * (n + 1) // 2 for n in (32, 96, 32768)], isa
        else:
            assert values[0] % ROUNDS == 0, (kind, isa)
            assert values[0] // ROUNDS >= 32, (kind, isa)
    assert {kind for kind, _ in found} == set(KINDS)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_every_kernel_that_this_processor_runs_counts_right(tmp_path: Path, compiler: str) -> None:
    argv = compilers(native.host_machine())[compiler]()
    program = compiled([*argv, "-O2"], tmp_path / "kernels", KERNELS, *SOURCES.glob("kernels_*.c"))
    done = subprocess.run([program], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    found = counts(done.stdout)
    check_counts(found)
    plain = {"x86_64": "sse2", "aarch64": "neon"}[native.host_machine()]
    assert {(kind, plain) for kind in KINDS} <= set(found), "the kernels that every processor runs are among them"


PRODUCTS = {
    "fp32_sse2": (r"\bmulps\b", 4),
    "fp32_avx2": (r"\bvfmadd\d+ps\b", 8),
    "fp32_avx512": (r"\bvfmadd\d+ps\b", 16),
    "int8_sse2": (r"\bpmaddwd\b", 8),
    "int8_avx2": (r"\bvpmaddubsw\b", 32),
    "int8_avx512bw": (r"\bvpmaddubsw\b", 64),
    "int8_avx512vnni": (r"\bvpdpbusd\b", 64),
}
"""What each kernel multiplies with, and how many products one such instruction makes."""
ISA = {"fp32_avx2": "avx2+fma", "fp32_avx512": "avx512f", "int8_avx512vnni": "avx512_vnni"}


@pytest.mark.skipif(native.host_machine() != "x86_64", reason="the instructions of x86-64 are NOT looked at here")
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_a_round_has_an_instruction_for_every_product_that_it_counts(tmp_path: Path, compiler: str) -> None:
    """A compiler that sees two accumulators hold the same keeps one, and the sum would not tell."""
    argv, objdump = compilers("x86_64")[compiler](), shutil.which("objdump")
    if objdump is None:
        pytest.skip("what the compiler made of the kernels is NOT looked at: objdump is missing")
    made = compiled([*argv, "-O2", "-c"], tmp_path / "kernels.o", SOURCES / "kernels_x86.c")
    listed = subprocess.run([objdump, "-d", "--no-show-raw-insn", made], capture_output=True, text=True, check=True)
    bodies = dict(re.findall(r"^[0-9a-f]+ <(\w+)>:\n((?:.+\n)+)", listed.stdout, re.MULTILINE))
    argv = compilers("x86_64")[compiler]()
    tool = compiled([*argv, "-O2"], tmp_path / "kernels", KERNELS, *SOURCES.glob("kernels_*.c"))
    found = counts(subprocess.run([tool], capture_output=True, text=True, check=True).stdout)
    looked = 0
    for name, (instruction, products) in PRODUCTS.items():
        kind, _, isa = name.partition("_")
        counted = found.get((kind, ISA.get(name, isa)))
        if counted is None:
            continue  # this processor lacks it
        there = len(re.findall(instruction, bodies[name]))
        needed = counted[0] // ROUNDS // products
        assert there >= needed > 1, name
        assert there % needed == 0, f"{name}: rounds are whole, unrolled or not"
        looked += 1
    assert looked >= 2


# ---------------------------------------------------------------------------------------------------------- aarch64


@pytest.fixture(scope="module")
def for_aarch64() -> Path:
    try:
        return native.build("roofline", "aarch64")
    except UsageError as error:
        pytest.skip(f"the roofline for aarch64 is NOT tested: {error}")


def emulator() -> list[str]:
    if native.host_machine() == "aarch64":
        return []
    found = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if found is None:
        pytest.skip("the roofline for aarch64 is NOT run: the package qemu-user-static is missing")
    return [found]


def test_the_program_for_aarch64_needs_no_library(for_aarch64: Path) -> None:
    data = for_aarch64.read_bytes()
    assert data[:4] == b"\x7fELF"
    assert int.from_bytes(data[18:20], "little") == ELF_AARCH64
    assert b"/ld-" not in data


@pytest.mark.parametrize(("cpu", "isa"), [("cortex-a53", "neon"), ("cortex-a76", "dotprod"), ("max", "i8mm")])
def test_each_processor_of_aarch64_gets_the_instructions_it_has(
    for_aarch64: Path, tmp_path: Path, cpu: str, isa: str
) -> None:
    if not (emulated := emulator()):
        pytest.skip("processors other than this one are NOT tested: this machine needs no emulator")
    argv = [*emulated, "-cpu", cpu]
    told = well([*argv, for_aarch64], tmp_path / "events", "--bytes", str(MIB), "--threads", "2", "--min-n", "2")
    engine = mark(told, "engine")
    assert (engine["read_isa"], engine["fp32_isa"], engine["int8_isa"]) == ("neon", "neon", isa)
    assert {e["bytes"] % MIB for _, e in pairs(told) if e["what"] == "read"} == {0}
    kernels = compiled([*zig("aarch64"), "-O2"], tmp_path / "kernels", KERNELS, *SOURCES.glob("kernels_*.c"))
    done = subprocess.run([*argv, kernels], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    found = counts(done.stdout)
    check_counts(found)
    assert ("int8", isa) in found


# ------------------------------------------------------------------------------------------------------- sanitizers


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_a_run_shows_the_sanitizers_no_error(tmp_path: Path, sanitizer: str) -> None:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("data races and memory errors are NOT looked for: this machine has neither gcc nor clang")
    out = tmp_path / "roofline"
    argv = [compiler, "-std=gnu11", "-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=undefined"]
    built = subprocess.run(
        [*argv, *SOURCES.glob("*.c"), "-o", out, "-pthread"], capture_output=True, text=True, check=False
    )
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip(f"data races and memory errors are NOT looked for: {compiler} has no -fsanitize={sanitizer}")
    assert built.returncode == 0, built.stderr
    tried = subprocess.run([out, "--try"], capture_output=True, text=True, check=False)
    if "FATAL: ThreadSanitizer" in tried.stderr:
        pytest.skip(f"data races are NOT looked for: {tried.stderr.strip()}")
    told = well([out], tmp_path / "events", "--bytes", str(MIB), "--threads", "3", "--min-n", "2")
    assert told[-1]["ev"] == "done"
    assert {first["what"] for first, _ in pairs(told)} == set(KINDS)
