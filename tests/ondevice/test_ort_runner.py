"""The ONNX Runtime runner, built here and driven over the real library: its events, its outputs, its refusals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from melt.job import read_events

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # for the library in this process; the runner sees to itself

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.peer

ONDEVICE = Path(__file__).parents[2] / "melt" / "ondevice"
STRICT = ("-Wall", "-Wextra", "-Werror")
ODD = "a b\n%é"
"""The name of an input that no shell, line or JSON string takes as it is."""

Event = dict[str, Any]


def compiled(out: Path, *argv: str | Path) -> Path:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"the runner is NOT tested: this machine has no {argv[0]}")
    done = subprocess.run([*argv, "-o", out], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runner") / "ort_runner"
    return compiled(out, "cc", "-std=c11", "-O2", *STRICT, "-Wpedantic", ONDEVICE / "ort_runner.c", "-ldl")


@pytest.fixture(scope="session")
def library() -> Path:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the runner is NOT tested: onnxruntime is missing")
    (found,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    return found


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small models, each named after what it is for."""
    onnx = pytest.importorskip("onnx", reason="the runner is NOT tested: onnx is missing")
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(7)
    kinds = onnx.TensorProto
    node = onnx.helper.make_node

    def value(name: str, kind: int, *shape: int | str) -> Any:
        return onnx.helper.make_tensor_value_info(name, kind, list(shape))

    def save(name: str, nodes: list[Any], inputs: list[Any], outputs: list[Any], **weights: Any) -> None:
        held = [onnx.numpy_helper.from_array(array, key) for key, array in weights.items()]
        graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, held)
        opsets = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / name)

    save(
        "conv.onnx",
        [
            node("Add", ["one", "one"], ["two"]),
            node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("Mul", ["c", "two"], ["m"]),
            node("Conv", ["m", "v"], ["d"]),
            node("ReduceMean", ["d"], ["y"], axes=[2, 3], keepdims=0),
        ],
        [value("x", kinds.FLOAT, 1, 3, 16, 16)],
        [value("y", kinds.FLOAT, 1, 4)],
        one=np.ones(1, np.float32),
        w=rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        v=rng.standard_normal((4, 8, 1, 1)).astype(np.float32),
    )
    save(
        "types.onnx",
        [
            node("Cast", [ODD], ["bool out"], to=kinds.BOOL),
            node("Cast", [ODD], ["half"], to=kinds.FLOAT16),
            node("Neg", ["s"], ["scalar"]),
            node("Slice", [ODD, "zero", "zero"], ["empty"]),
        ],
        [value(ODD, kinds.INT64, 2, "n"), value("s", kinds.DOUBLE)],
        [
            value("bool out", kinds.BOOL, 2, "n"),
            value("half", kinds.FLOAT16, 2, "n"),
            value("scalar", kinds.DOUBLE),
            value("empty", kinds.INT64, 0, "n"),
        ],
        zero=np.array([0]),
    )
    count, one = value("n", kinds.INT64, 1), value("n", kinds.UINT16, 1)
    save("text.onnx", [node("Cast", ["n"], ["y"], to=kinds.STRING)], [count], [value("y", kinds.STRING, 1)])
    save("large.onnx", [node("ConstantOfShape", ["n"], ["y"])], [count], [value("y", kinds.FLOAT, "n")])
    shift = node("BitShift", ["n", "n"], ["y"], direction="LEFT")
    save("unimplemented.onnx", [shift], [one], [value("y", kinds.UINT16, 1)])
    (folder / "garbage.onnx").write_bytes(rng.bytes(1000))
    rng.standard_normal((1, 3, 16, 16)).astype(np.float32).tofile(folder / "x.bin")
    np.array([1]).tofile(folder / "one.bin")
    np.array([1 << 45]).tofile(folder / "huge.bin")
    np.array([(256 << 20) // 4 + 1]).tofile(folder / "over.bin")
    return folder


@dataclass(frozen=True)
class Bench:
    """The program, the library and the models, with a fresh folder for what a run leaves."""

    program: Path
    library: Path
    models: Path
    folder: Path

    @property
    def events_file(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def argv(self, *more: str | bytes | Path, model: str | bytes | Path = "conv.onnx") -> list[str | bytes | Path]:
        path = model if isinstance(model, bytes) else self.models / model
        fixed = ["--lib", self.library, "--model", path, "--events", self.events_file, "--output", self.output]
        return [self.program, *fixed, *more]

    def x(self) -> list[str | Path]:
        """The input of conv.onnx."""
        return ["--input", "x", "float32", "1x3x16x16", self.models / "x.bin"]

    def n(self, file: str) -> list[str | Path]:
        return ["--input", "n", "int64", "1", self.models / file]

    def run(self, *more: str | bytes | Path, **how: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(self.argv(*more, **how), capture_output=True, timeout=120, check=False)

    def events(self, *more: str | bytes | Path, **how: Any) -> list[Event]:
        """The events of a run that must succeed and have nothing to say on stderr."""
        done = self.run(*more, **how)
        assert (done.returncode, done.stderr) == (0, b"")
        return whole_events(self.events_file)

    def error(self, *more: str | bytes | Path, **how: Any) -> Event:
        """The last event of a run that must fail."""
        done = self.run(*more, **how)
        last = whole_events(self.events_file)[-1]
        assert (done.returncode, last["ev"]) == (3, "error")
        assert last["kind"].encode() in done.stderr
        return last

    def start(self, *more: str | bytes | Path) -> subprocess.Popen[bytes]:
        """A run of an hour; returned when it measures and has said so."""
        process = subprocess.Popen(self.argv(*self.x(), "--min-s", "3600", *more))
        try:
            give_up = time.monotonic() + 60
            while len(read_events(self.events_file).inferences) < 10:
                assert process.poll() is None
                assert time.monotonic() < give_up, "the runner never came to its tenth inference"
                time.sleep(0.01)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process


@pytest.fixture
def bench(program: Path, library: Path, models: Path, tmp_path: Path) -> Bench:
    return Bench(program, library, models, tmp_path)


def whole_events(file: Path) -> list[Event]:
    """Every line of a file that holds whole ones only, batches taken apart into pairs."""
    data = file.read_bytes()
    assert data.endswith(b"\n")
    return [event for line in data.splitlines() for event in pairs(json.loads(line))]


def pairs(event: Event) -> Iterator[Event]:
    if event["ev"] != "infer.batch":
        yield event
        return
    gaps, t = event["ns"][0::2], event["t"]
    assert gaps[0] == 0
    for i, (gap, took) in enumerate(zip(gaps, event["ns"][1::2], strict=True), event["i"]):
        yield {"t": t + gap, "ev": "infer.begin", "i": i}
        t += gap + took
        yield {"t": t, "ev": "infer.end", "i": i}


def words(events: list[Event]) -> list[str]:
    """Each event as one word: a mark by its name, an inference as begin and end in one."""
    return [e.get("name", e["ev"]) for e in events]


def mark(events: list[Event], name: str) -> Event:
    (found,) = (e for e in events if e["ev"] == "mark" and e["name"] == name)
    return found


def window(events: list[Event], begin: str, end: str) -> list[Event]:
    names = words(events)
    return events[names.index(begin) + 1 : names.index(end)]


def outputs(file: Path) -> Iterator[tuple[bytes, np.ndarray[Any, Any]]]:
    """Read the output file back, by nothing but what its headers say."""
    data = file.read_bytes()
    while data:
        header, _, rest = data.partition(b"\n")
        name, kind, dims, size = header.split(b" ")
        shape = [] if dims == b"-" else [int(n) for n in dims.split(b"x")]
        assert len(rest) >= int(size)
        yield unquote_to_bytes(name), np.frombuffer(rest[: int(size)], kind.decode()).reshape(shape)
        data = rest[int(size) :]


def python_outputs(model: Path, feed: Mapping[str, Any]) -> dict[bytes, Any]:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip((name.encode() for name in names), session.run(names, feed), strict=True))


# ------------------------------------------------------------------------------------------------------ events


def test_a_run_tells_its_events_in_order(bench: Bench) -> None:
    events = bench.events(*bench.x(), "--warmup-n", "1", "--min-n", "2")
    pair = ["infer.begin", "infer.end"]
    assert words(events) == [
        "load.begin", "load.end", "engine", *pair, "warmup.begin", *pair, "measure.begin", *pair, *pair,
        "measure.end", "memory", "providers", "done",
    ]  # fmt: skip
    assert [e["i"] for e in events if e["ev"] == "infer.end"] == [0, 1, 2, 3]
    assert [e["i"] for e in events if e["ev"] == "infer.begin"] == [0, 1, 2, 3]
    stamps = [e["t"] for e in events]
    assert stamps == sorted(stamps)


def test_the_engine_mark_says_what_was_asked_and_what_answered(bench: Bench) -> None:
    flags = ["--threads", "2", "--inter-threads", "3", "--spin", "0", "--graph-level", "basic"]
    told = mark(bench.events(*bench.x(), *flags), "engine")
    version = bench.library.name.partition(".so.")[2]
    asked = {"threads": 2, "inter_threads": 3, "spin": 0, "graph_level": "basic", "provider": "cpu"}
    table = {"ort_api": min(int(version.split(".")[1]), 24)}
    assert told == {"t": told["t"], "ev": "mark", "name": "engine", "version": version, **asked, **table}


@pytest.mark.parametrize(("warmup", "least"), [(0, 1), (3, 5), (1, 64)])
def test_counts_are_kept_exactly_when_no_time_is_asked(bench: Bench, warmup: int, least: int) -> None:
    events = bench.events(*bench.x(), "--warmup-n", str(warmup), "--min-n", str(least))
    assert len(window(events, "warmup.begin", "measure.begin")) == 2 * warmup
    assert len(window(events, "measure.begin", "measure.end")) == 2 * least


def test_a_window_ends_with_the_first_inference_that_satisfies_both_rules(bench: Bench) -> None:
    events = bench.events(*bench.x(), "--warmup-s", "0.2", "--min-s", "0.30", "--min-n", "3")
    for begin, end, seconds in (("warmup.begin", "measure.begin", 0.2), ("measure.begin", "measure.end", 0.3)):
        ends = [e["t"] for e in window(events, begin, end) if e["ev"] == "infer.end"]
        started = mark(events, begin)["t"]
        assert ends[-1] - started >= seconds * 1e9 > ends[-2] - started


def test_the_cap_ends_a_window_that_wants_more_and_says_so(bench: Bench) -> None:
    events = bench.events(*bench.x(), "--min-n", "3", "--min-s", "600", "--max-n", "4")
    assert words(window(events, "measure.begin", "measure.end")) == ["infer.begin", "infer.end"] * 4 + [
        "measure.capped"
    ]


def test_a_cap_that_is_met_in_time_is_no_cap(bench: Bench) -> None:
    assert "measure.capped" not in words(bench.events(*bench.x(), "--min-n", "4", "--max-n", "4"))


def test_memory_is_told_in_kilobytes(bench: Bench) -> None:
    told = mark(bench.events(*bench.x()), "memory")
    size_kb = bench.library.stat().st_size // 1024
    assert told["vm_hwm_kb"] > told["rss_file_kb"] > 0
    assert 1000 < told["rss_anon_kb"] < told["vm_hwm_kb"] < 100 * size_kb
    assert told["rss_shmem_kb"] >= 0


@pytest.mark.parametrize("level", ["disable", "basic", "all"])
def test_node_placement_is_what_python_is_told(bench: Bench, level: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        pytest.skip(f"placement NOT compared: onnxruntime {onnxruntime.__version__} does not tell it in Python")
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    known = {"disable": levels.ORT_DISABLE_ALL, "basic": levels.ORT_ENABLE_BASIC, "all": levels.ORT_ENABLE_ALL}
    options.graph_optimization_level = known[level]
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(bench.models / "conv.onnx", options, providers=["CPUExecutionProvider"])
    wanted: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        wanted.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    told = mark(bench.events(*bench.x(), "--graph-level", level), "providers")
    assert told["nodes"] == wanted
    assert told["total"] == sum(sum(ops.values()) for ops in wanted.values())
    assert told["nodes"]["CPUExecutionProvider"]["Conv"] == 2
    assert ("Add" in told["nodes"]["CPUExecutionProvider"]) == (level == "disable")


OLDER = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <dlfcn.h>
struct base { const void *(*get_api)(uint32_t); const char *(*get_version)(void); };
static const struct base *real(void) {
  const struct base *(*get)(void);
  void *symbol = dlsym(dlopen(REAL, RTLD_NOW | RTLD_LOCAL), "OrtGetApiBase");
  *(void **)&get = symbol;
  return get();
}
static const void *get_api(uint32_t n) {
  if (n > TABLE) fprintf(stderr, "table %u was asked for\\n", n);
  return n > TABLE ? NULL : real()->get_api(n);
}
static const char *get_version(void) { return VERSION; }
const struct base *OrtGetApiBase(void) {
  static const struct base base = {get_api, get_version};
  return &base;
}
"""


def older(bench: Bench, version: str, table: int) -> Bench:
    """The real library behind one that has only its first tables and calls itself `version`."""
    source, out = bench.folder / "older.c", bench.folder / "libonnxruntime.so"
    source.write_text(OLDER)
    defines = [f'-DREAL="{bench.library}"', f'-DVERSION="{version}"', f"-DTABLE={table}"]
    compiled(out, "cc", "-shared", "-fPIC", *defines, source, "-ldl")
    return Bench(bench.program, out, bench.models, bench.folder)


def test_an_older_library_is_used_without_asking_it_for_more_than_it_has(bench: Bench) -> None:
    events = older(bench, "1.20.1", 20).events(*bench.x())
    assert mark(events, "engine")["ort_api"] == 20
    assert mark(events, "providers")["unknown"] == "ONNX Runtime 1.20.1 does not tell node placement"


@pytest.mark.parametrize("version", ["1.99.0-vendor", "nightly", "2.0.0"])
def test_a_library_whose_version_promises_too_much_is_asked_again_for_less(bench: Bench, version: str) -> None:
    bench = older(bench, version, 18)
    assert bench.run(*bench.x()).returncode == 0
    assert mark(whole_events(bench.events_file), "engine")["ort_api"] == 18


def test_a_library_too_old_for_melt_is_refused(bench: Bench) -> None:
    old = older(bench, "1.11.0", 11)
    error = old.error(*bench.x())
    assert error["kind"] == "library"
    assert "1.11.0" in error["message"]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_are_as_many_as_asked_and_no_others_live_beside_them(bench: Bench, threads: int) -> None:
    process = bench.start("--threads", str(threads), "--spin", "0")
    try:
        assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == threads
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("asked", [None, "0"])
def test_the_library_reports_to_nobody_and_leaves_nothing_in_the_home_folder(bench: Bench, asked: str | None) -> None:
    home = bench.folder / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    if asked:
        environment["ORT_DISABLE_TELEMETRY"] = asked
    done = subprocess.run(bench.argv(*bench.x()), env=environment, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(home.rglob("*")) == []


# ----------------------------------------------------------------------------------------------------- outputs


def test_the_output_is_pythons_for_the_same_input(bench: Bench) -> None:
    bench.events(*bench.x(), "--min-n", "2")
    x = np.fromfile(bench.models / "x.bin", np.float32).reshape(1, 3, 16, 16)
    wanted = python_outputs(bench.models / "conv.onnx", {"x": x})
    told = dict(outputs(bench.output))
    assert told.keys() == wanted.keys()
    np.testing.assert_allclose(told[b"y"], wanted[b"y"], rtol=1e-5, atol=1e-6)


def test_outputs_of_every_shape_type_and_name_are_kept(bench: Bench) -> None:
    grid, scalar = np.array([[0, 1, -2], [3, 0, 2049]]), np.array(2.5)
    files = [bench.folder / "grid", bench.folder / "scalar"]
    grid.tofile(files[0])
    scalar.tofile(files[1])
    given = ["--input", "s", "float64", "-", files[1], "--input", ODD, "int64", "2x3", files[0]]
    bench.events(*given, model="types.onnx")
    wanted = python_outputs(bench.models / "types.onnx", {ODD: grid, "s": scalar})
    told = list(outputs(bench.output))
    assert [name for name, _ in told] == [b"bool out", b"half", b"scalar", b"empty"] == list(wanted)
    for name, array in told:
        assert array.dtype == wanted[name].dtype
        assert array.shape == wanted[name].shape
        np.testing.assert_array_equal(array, wanted[name])


@pytest.mark.parametrize(
    ("model", "file", "reason"), [("text.onnx", "one.bin", "fixed size"), ("large.onnx", "over.bin", "256 MiB")]
)
def test_an_output_that_is_not_kept_says_why_and_leaves_no_old_one(
    bench: Bench, model: str, file: str, reason: str
) -> None:
    bench.output.write_bytes(b"of an earlier run")
    events = bench.events(*bench.n(file), model=model)
    assert reason in mark(events, "outputs")["unknown"]
    assert events[-1]["ev"] == "done"
    assert bench.output.read_bytes() == b""


def test_an_output_file_that_cannot_be_made_costs_the_output_only(bench: Bench) -> None:
    bench.output.mkdir()
    events = bench.events(*bench.x())
    assert mark(events, "outputs")["unknown"] == "Is a directory"
    assert events[-1]["ev"] == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_costs_the_output_or_ends_the_run_when_it_takes_the_events(bench: Bench) -> None:
    bench.output.symlink_to("/dev/full")
    assert "could not be" in mark(bench.events(*bench.x()), "outputs")["unknown"]
    bench.events_file.unlink()
    bench.events_file.symlink_to("/dev/full")
    done = bench.run(*bench.x())
    assert (done.returncode, done.stderr) == (3, b"cannot write events: No space left on device\n")


# -------------------------------------------------------------------------------------------------- bad input

X = ("x", "float32", "1x3x16x16", "x.bin")


@pytest.mark.parametrize(
    ("model", "given", "kind", "said"),
    [
        ("missing.onnx", [X], "model", "missing.onnx"),
        ("garbage.onnx", [X], "model", "garbage.onnx"),
        ("x.bin", [X], "model", "x.bin"),
        ("unimplemented.onnx", [], "unsupported", "BitShift"),
        ("large.onnx", [("n", "int64", "1", "huge.bin")], "memory", "allocate"),
        ("conv.onnx", [], "input", "'x', which is not given"),
        ("conv.onnx", [X, ("z", "int64", "1", "one.bin")], "input", "no input 'z'"),
        ("conv.onnx", [("x", "float32", "1x3x16x15", "x.bin")], "input", "3072 bytes where float32"),
        ("conv.onnx", [("x", "float32", "1x3x8x32", "x.bin")], "input", "invalid dimensions"),
        ("conv.onnx", [("x", "float32", "768", "x.bin")], "input", "rank"),
        ("conv.onnx", [("x", "int32", "1x3x16x16", "x.bin")], "input", "int32"),
        ("conv.onnx", [("x", "float", "1x3x16x16", "x.bin")], "input", "unknown type 'float'"),
        ("conv.onnx", [("x", "float32", "1x3x16x16", "no.bin")], "input", "No such file"),
        ("conv.onnx", [("x", "float32", "1x3x16x16", ".")], "input", "needs 3072"),
        *(
            ("conv.onnx", [("x", "float32", dims, "x.bin")], "input", f"dimensions '{dims}'")
            for dims in ("", "x", "1x", "x1", "1xx3", "-1x3", "+1", " 1", "1.5", "1e3", "9" * 11, "1x" * 16 + "1")
        ),
        ("conv.onnx", [("x", "float32", "4294967296", "x.bin")], "input", "larger than 4 GiB"),
        ("conv.onnx", [("x", "uint8", "9999999999x9999999999x9999999999", "x.bin")], "input", "larger than 4 GiB"),
    ],
)  # fmt: skip
def test_a_wrong_model_or_input_ends_with_its_kind_and_reason(
    bench: Bench, model: str, given: list[tuple[str, str, str, str]], kind: str, said: str
) -> None:
    flags = [part for name, dtype, dims, file in given for part in ("--input", name, dtype, dims, bench.models / file)]
    error = bench.error(*flags, model=model)
    assert error["kind"] == kind
    assert said.lower() in error["message"].lower()


@pytest.mark.parametrize("name", ["XNNPACK", "no-such-provider", ""])
def test_a_provider_that_the_library_lacks_is_unsupported(bench: Bench, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "XnnpackExecutionProvider" in onnxruntime.get_available_providers() and name == "XNNPACK":
        pytest.skip("this onnxruntime has XNNPACK")
    error = bench.error(*bench.x(), "--provider", name, "--provider-option", "a=b")
    assert error["kind"] == "unsupported"
    assert f"provider '{name}'" in error["message"]


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"\x7fELF no", "file too short|invalid ELF")])
def test_a_library_that_cannot_be_opened_is_an_error_of_kind_library(
    bench: Bench, content: bytes | None, said: str
) -> None:
    path = bench.folder / "lib.so"
    if content:
        path.write_bytes(content)
    error = Bench(bench.program, path, bench.models, bench.folder).error(*bench.x())
    assert error["kind"] == "library"
    assert re.search(said, error["message"])


def test_a_library_that_is_not_onnx_runtime_is_told_so(bench: Bench) -> None:
    source, out = bench.folder / "other.c", bench.folder / "other.so"
    source.write_text("int other;\n")
    compiled(out, "cc", "-shared", "-fPIC", source)
    error = Bench(bench.program, out, bench.models, bench.folder).error(*bench.x())
    assert (error["kind"], "is not ONNX Runtime" in error["message"]) == ("library", True)


@pytest.mark.parametrize(
    "flags",
    [
        ["--min-n", "-1"], ["--min-n", "0"], ["--min-n", "1e3"], ["--min-n", ""], ["--min-n", " 1"],
        ["--min-n", "9" * 30],
        ["--threads", "0"], ["--threads", "1025"], ["--spin", "2"], ["--max-n", "99999999999"],
        ["--warmup-s", "-1"], ["--min-s", "inf"], ["--min-s", "nan"], ["--min-s", "0x1"], ["--min-s", "1.2.3"],
        ["--min-s", "."], ["--min-s", ""], ["--min-s", "9" * 20], ["--graph-level", "most"], ["--min-n"],
        ["--bogus", "1"],
        ["--input", "x", "float32", "1"], ["--provider-option", "a=b"], ["--provider", "p", "--provider-option", "=b"],
        ["--input", "x", "uint8", "1", "f", "--input", "x", "uint8", "1", "f"],
        [part for i in range(65) for part in ("--input", str(i), "uint8", "1", "f")],
    ],
)  # fmt: skip
def test_wrong_arguments_end_with_code_2_before_anything_is_written(bench: Bench, flags: list[str]) -> None:
    done = bench.run(*flags)
    assert done.returncode == 2
    assert done.stderr.startswith(b"ort_runner: ")
    assert not bench.events_file.exists()


def test_names_of_any_bytes_become_valid_json(bench: Bench) -> None:
    name = b'new\nline "quoted" back\\slash \x1b[31m \xff\xed\xa0\x80\xc0\xaf \xe2\x82 \xf0\x9f\x98\x80 end\x7f'
    done = bench.run(*bench.x(), model=name)
    message = whole_events(bench.events_file)[-1]["message"]
    assert "\U0001f600" in message
    assert name.decode(errors="replace").split()[-1] in message
    assert 'new\nline "quoted" back\\slash \x1b[31m \ufffd' in message
    assert b"\x1b" not in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_model_with_a_hostile_path_runs(bench: Bench) -> None:
    path = bytes(bench.folder) + b'/\xff\n"%s%n model'
    shutil.copy(bench.models / "conv.onnx", path)
    assert bench.events(*bench.x(), model=path)[-1]["ev"] == "done"


def test_messages_are_bounded(bench: Bench) -> None:
    error = bench.error(*bench.x(), "--provider", "é" * 10_000)
    assert 1900 < len(error["message"].encode()) <= 2000


# ---------------------------------------------------------------------------------------------------- endings


def test_a_killed_run_leaves_whole_lines_and_no_more_than_a_truncated_last_one(bench: Bench) -> None:
    process = bench.start()
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    lines = bench.events_file.read_bytes().split(b"\n")[:-1]
    events = [event for line in lines for event in pairs(json.loads(line))]
    done = [e["i"] for e in events if e["ev"] == "infer.end"]
    assert done == list(range(len(done)))
    assert len(done) >= 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT])
@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_run_that_is_ended_by_a_signal_dies_of_it_and_leaves_only_whole_events(
    bench: Bench, number: signal.Signals, threads: str
) -> None:
    process = bench.start("--threads", threads)
    process.send_signal(number)
    assert process.wait(60) == -number
    events = whole_events(bench.events_file)
    told = [e["i"] for e in events if e["ev"] in {"infer.begin", "infer.end"}]
    assert told == [i // 2 for i in range(len(told))]


def test_lines_of_another_program_stay_whole_beside_ours(bench: Bench) -> None:
    line = b'{"t":1,"ev":"other","fill":"' + b"x" * 200 + b'"}\n'
    process = bench.start()
    fd = os.open(bench.events_file, os.O_WRONLY | os.O_APPEND)
    try:
        for _ in range(3000):
            os.write(fd, line)
    finally:
        os.close(fd)
        process.terminate()
        process.wait()
    assert Counter(e["ev"] for e in whole_events(bench.events_file))["other"] == 3000


WRITER = """
#include "events.h"
int main(int argc, char **argv) {
  if (argc < 3 || !ev_open(argv[1])) return 1;
  ev_mark(1, "buffered");
  ev_begin(2, "half a line");
  ev_key_number("n", -5);
  if (argv[2][0] == 'L') { /* a line that fits no buffer is dropped, and its maker is told */
    for (int i = 0; i < EV_BUFFER; i++) ev_text(".");
    if (ev_end()) return 2;
    ev_mark(3, "after");
    ev_flush();
    return 0;
  }
  if (argv[2][0] == 'N') { /* more than a buffer of events, not paced */
    if (!ev_end()) return 2;
    for (int i = 0; i < 5000; i++) ev_mark(i, "many");
    ev_die("runtime", "end");
  }
  if (argv[2][0] == 'I') { /* inferences of every length, one of them twice, and a signal while a batch is open */
    ev_end();
    for (int64_t i = 0, t = 1000; i < 30000; i++) {
      int64_t took = i % 1000 == 999 ? 1000000 : i % 1000 == 998 ? 999999 : i * 37 % 9000;
      ev_inference(i == 20001 ? 20000 : i, t, t + took);
      t += took + i % 700;
      ev_pace(t, took);
      if (i % 5000 == 2500) ev_mark(t, "between");
    }
    raise(atoi(argv[3]));
  }
  raise(atoi(argv[2]));
  return 3;
}
"""


@pytest.fixture(scope="session", params=["cc -std=c11", "c++ -std=c++17"])
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program over events.h, as C and as C++."""
    folder = tmp_path_factory.mktemp("writer")
    compiler, standard = request.param.split()
    source = folder / ("writer.c" if compiler == "cc" else "writer.cc")
    source.write_text(WRITER)
    return compiled(folder / "writer", compiler, standard, "-O2", *STRICT, f"-I{ONDEVICE}", source)


def written(writer: Path, file: Path, *how: str) -> int:
    return subprocess.run([writer, file, *how], timeout=60, check=False, capture_output=True).returncode


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTERM"])
def test_a_fatal_signal_loses_no_whole_line_and_writes_no_half_one(writer: Path, tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    assert written(writer, tmp_path / "ev", str(int(number))) == -number
    assert whole_events(tmp_path / "ev") == [{"t": 1, "ev": "mark", "name": "buffered"}]


def test_a_line_too_long_for_an_event_is_dropped_whole(writer: Path, tmp_path: Path) -> None:
    assert written(writer, tmp_path / "ev", "L") == 0
    assert [e["name"] for e in whole_events(tmp_path / "ev")] == ["buffered", "after"]


def test_events_that_overflow_the_buffer_are_all_kept(writer: Path, tmp_path: Path) -> None:
    assert written(writer, tmp_path / "ev", "N") == 3
    events = whole_events(tmp_path / "ev")
    assert [e["t"] for e in events[2:-1]] == list(range(5000))
    assert events[1] == {"t": 2, "ev": "half a line", "n": -5}
    assert (events[-1]["ev"], events[-1]["message"]) == ("error", "end")


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGTERM"])
def test_every_inference_is_read_back_as_it_was_put_in_batches_or_as_a_pair(
    writer: Path, tmp_path: Path, name: str
) -> None:
    number = signal.Signals[name]
    assert written(writer, tmp_path / "ev", "I", str(int(number))) == -number
    i, t, wanted = 0, 1000, []
    for i in range(30000):
        took = 1_000_000 if i % 1000 == 999 else 999_999 if i % 1000 == 998 else i * 37 % 9000
        wanted.append((20000 if i == 20001 else i, t, t + took))
        t += took + i % 700
    events = whole_events(tmp_path / "ev")
    put = [e for e in events if e["ev"].startswith("infer.")]
    assert [(b["i"], b["t"], e["t"]) for b, e in zip(put[::2], put[1::2], strict=True)] == wanted
    done = read_events(tmp_path / "ev").inferences
    assert list(zip(done.i.tolist(), done.begin.tolist(), done.end.tolist(), strict=True)) == wanted
    lines = (tmp_path / "ev").read_bytes().splitlines()
    assert max(map(len, lines)) < 16384
    assert sum(b"infer.begin" in line for line in lines) == 30
    assert sum(b"between" in line for line in lines) == 6
    assert len(lines) < 150


@pytest.mark.parametrize(("processor", "machine"), [("x86_64", 62), ("aarch64", 183)])
def test_it_builds_for_glibc_2_28(tmp_path: Path, processor: str, machine: int) -> None:
    pytest.importorskip("ziglang", reason="the builds for devices are NOT tested: ziglang is missing")
    out = tmp_path / "ort_runner"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{processor}-linux-gnu.2.28"]
    compiled(out, *zig, "-std=c11", "-O2", *STRICT, ONDEVICE / "ort_runner.c", "-ldl")
    data = out.read_bytes()
    assert int.from_bytes(data[18:20], "little") == machine
    assert max(int(n) for n in re.findall(rb"GLIBC_2\.(\d+)", data)) <= 28
