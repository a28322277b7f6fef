"""Any program as an engine: end to end on this computer, and what is refused before anything is sent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from workspace import Workspace

from melt.engines import Request, StopRules, engine_named
from melt.errors import UsageError
from melt.makers import gguf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from melt.store import StoredRun

CAPTURED = Path(__file__).parent / "captured"
STOP = StopRules(warmup_s=0.5, warmup_n=3, min_s=3.0, min_n=11)
SAYS = f"""#!{sys.executable}
import json, os, signal, sys, time
def say(ev, out=sys.stdout, **more):
    print(json.dumps({{"t": time.monotonic_ns(), "ev": ev, **more}}), file=out, flush=True)
def infer(n, out=sys.stdout):
    for i in range(n):
        say("infer.begin", out, i=i)
        time.sleep(0.004)
        say("infer.end", out, i=i)
"""
PROGRAMS = {
    "marked": """
say("load.begin"); time.sleep(0.01); say("load.end")
say("mark", name="engine", version="7.1")
print("chatter that is no event", flush=True)
infer(4)
say("mark", name="measure.begin")
infer(40)
say("mark", name="measure.end")
say("done")
""",
    "file": """
with open(os.environ["MELT_EVENTS"], "w") as out:
    infer(30, out)
""",
    "crashes": "infer(5)\nos.kill(os.getpid(), signal.SIGSEGV)",
    "fails": "infer(5)\nprint('the model is of another kind', file=sys.stderr)\nsys.exit(7)",
    "hangs": "infer(5)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)",
    "garbage": "sys.stdout.buffer.write(os.urandom(200_000) + b'\\n{\\n' + b'[' * 100_000 + b'\\n{\"ev\":1}\\n')",
    "broken": 'infer(3)\nprint(\'{"t": 12, "ev": "inf\')',
    "clock": "print(json.dumps({'t': time.time_ns(), 'ev': 'load.begin'}))",
    "pretends": """
infer(3)
for name in ("agent.kill", "agent.end", "agent.set"):
    say(name, why="stop", ok=False, path="/x", asked="1", got="2")
""",
    "words": "json.dump([sys.argv[1:], os.environ['TOLD']], open(sys.argv[1], 'w'))",
    "babbles": "print('tokens per second: many')",
}
WORDS = [
    "; touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "a b\nc\t'\"",
    "%41%00",
    "{",
    '{"n": {"threads": 1}}',
    "é\\",
]
COPIES = r"""
#include <stdio.h>
int main(int n, char **words) {
  FILE *in = fopen(words[1], "rb"), *out = fopen(words[2], "wb");
  for (int c; n == 3 && in && out && (c = fgetc(in)) != EOF;) fputc(c, out);
  return !out || fclose(out);
}
"""
NOISE = {"foreign_load", "slowed", "not_steady", "sensor_gap"}
"""What a machine that others use may add to any run."""


def program(path: Path, body: str) -> str:
    path.write_text(SAYS + body)
    return str(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, StoredRun]]:
    """One session of `melt run` with every program, and the run of each."""
    here = Workspace(tmp_path_factory.mktemp("commands"))
    here.lab()
    here.profile()
    workloads: dict[str, dict[str, Any]] = {
        name: {"program": program(here.folder / f"{name}.py", body)} for name, body in PROGRAMS.items()
    }
    workloads["words"] |= {
        "args": ["{result}", "{threads}", "--t={threads}s", *WORDS],
        "env": {"TOLD": "$HOME {min_n}"},
    }
    workloads["babbles"] |= {"output": "llama-bench"}
    workloads["silent"] = {"on_device": shutil.which("true")}
    workloads["bench"] = {"on_device": shutil.which("cat"), "output": "llama-bench"}
    workloads["bench"]["args"] = [str(CAPTURED / "llama-bench.json")]
    workloads["bench-cut"] = {"on_device": shutil.which("head"), "output": "llama-bench"}
    workloads["bench-cut"]["args"] = ["-c", 2000, str(CAPTURED / "llama-bench.json")]
    workloads["absent"] = {"on_device": "/nowhere/engine"}
    for name, params in workloads.items():
        limits = {"limits": {"wall_s": 3}} if name == "hangs" else {}
        here.write(f"{name}.yaml", {"kind": "workload", "name": name, "engine": "command", "params": params, **limits})
    protocol = {"preset": "quick", "runs": 1, "min_s": 0.2, "warmup_s": 0.0, "warmup_n": 1}
    here.suite(workloads=list(workloads), protocol=protocol)
    said = here.run()
    assert "Traceback" not in said.stderr
    found = {run.record.workload: run for run in here.runs()}
    assert set(found) == set(workloads), said
    assert here.processes() == []
    assert not list(here.folder.rglob("pwned"))
    yield found
    for child in here.children:
        child.wait()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def codes(run: StoredRun) -> set[str]:
    return {str(reason.code) for reason in run.record.reasons} - NOISE


def detail(run: StoredRun) -> str:
    return "; ".join(reason.detail for reason in run.record.reasons)


@pytest.mark.peer
def test_a_program_that_prints_events_is_measured_as_any_engine(runs: dict[str, StoredRun]) -> None:
    record = runs["marked"].record
    assert (record.status, codes(runs["marked"])) == ("ok", set()), record.reasons
    assert record.engine["version"] == "7.1"
    kept, discarded = record.metrics["latency_p50_s"], record.metrics["warmup_discarded"]
    assert kept.n is not None
    assert discarded.value is not None
    assert kept.n + discarded.value == 40, "those before the mark are no part of it"
    assert kept.value is not None
    assert 0.004 <= kept.value < 1
    assert (record.metrics["load_s"].value or 0) >= 0.01
    assert record.metrics["peak_memory_bytes"].value
    text = (runs["marked"].path / "events.jsonl").read_text()
    stamps = [json.loads(line)["t"] for line in text.splitlines()]
    assert stamps == sorted(stamps)
    assert "chatter" not in text
    assert "chatter" in (runs["marked"].path / "stdout.log").read_text(), "what it printed stays"


@pytest.mark.peer
def test_events_may_be_written_to_the_file_it_is_told_and_without_marks_all_is_measured(
    runs: dict[str, StoredRun],
) -> None:
    record = runs["file"].record
    assert (record.status, codes(runs["file"])) == ("ok", set()), record.reasons
    assert record.metrics["latency_p50_s"].n == 30
    assert "agent.begin" in (runs["file"].path / "events.jsonl").read_text(), "though the file was opened anew"


@pytest.mark.peer
def test_a_crash_keeps_what_was_measured_and_names_the_signal(runs: dict[str, StoredRun]) -> None:
    record = runs["crashes"].record
    assert (record.status, record.verdict, codes(runs["crashes"])) == ("failed", "invalid", {"crashed"})
    assert "SIGSEGV" in detail(runs["crashes"])
    assert record.metrics["first_inference_s"].value


@pytest.mark.peer
def test_an_exit_code_is_told_and_no_done_is_made_up(runs: dict[str, StoredRun]) -> None:
    assert runs["fails"].record.status == "failed"
    assert "exit code 7" in detail(runs["fails"])
    assert '"done"' not in (runs["fails"].path / "events.jsonl").read_text()


@pytest.mark.peer
def test_a_program_that_hangs_is_ended_at_its_limit(runs: dict[str, StoredRun]) -> None:
    assert (runs["hangs"].record.status, codes(runs["hangs"])) == ("failed", {"timed_out"})
    assert runs["hangs"].record.metrics["first_inference_s"].value


@pytest.mark.peer
@pytest.mark.parametrize("name", ["garbage", "silent"])
def test_a_program_without_an_event_ends_in_a_record_of_gaps(runs: dict[str, StoredRun], name: str) -> None:
    record = runs[name].record
    assert (record.status, codes(runs[name])) == ("ok", set()), record.reasons
    assert record.metrics["latency_p50_s"].reason is not None
    last = (runs[name].path / "events.jsonl").read_text()
    assert '"ev":"done","by":"exit status"' in last


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "1 of its event lines are broken"),
        ("clock", "CLOCK_MONOTONIC"),
        ("babbles", "no test of llama-bench"),
    ],
)
def test_output_that_is_not_what_it_ought_to_be_makes_the_run_invalid(
    runs: dict[str, StoredRun], name: str, words: str
) -> None:
    assert runs[name].record.verdict == "invalid"
    assert words in detail(runs[name])


@pytest.mark.peer
def test_a_program_does_not_speak_in_the_agents_name(runs: dict[str, StoredRun]) -> None:
    record = runs["pretends"].record
    assert (record.status, codes(runs["pretends"])) == ("ok", set()), record.reasons
    assert record.undo.changed == ()
    assert record.metrics["first_inference_s"].value


@pytest.mark.peer
def test_words_arrive_as_they_are_and_no_shell_sees_them(runs: dict[str, StoredRun]) -> None:
    argv, told = json.loads((runs["words"].path / "result.txt").read_text())
    assert argv[1:] == ["1", "--t=1s", *WORDS]
    assert told == "$HOME 11"


@pytest.mark.peer
def test_an_adapters_figures_and_what_the_program_says_of_itself_are_in_the_record(runs: dict[str, StoredRun]) -> None:
    record = runs["bench"].record
    assert (record.status, codes(runs["bench"])) == ("ok", set()), record.reasons
    assert record.metrics["pp_tok_per_s"].n == record.metrics["tg_tok_per_s"].n == 3
    assert record.engine["version"] == record.fingerprint.hard["engine_version"]
    assert record.engine["n_threads"] == 1
    assert "toy.gguf" not in json.dumps(record.fingerprint.hard)
    cut = runs["bench-cut"].record
    assert (cut.metrics["pp_tok_per_s"], cut.verdict) == (record.metrics["pp_tok_per_s"], "invalid")
    assert cut.metrics["tg_tok_per_s"].reason is not None
    assert "cut or damaged after 1 whole test" in detail(runs["bench-cut"])


@pytest.mark.peer
def test_a_program_that_is_not_on_the_device_is_refused_before_the_start(runs: dict[str, StoredRun]) -> None:
    assert (runs["absent"].record.status, codes(runs["absent"])) == ("skipped", {"refused"})
    assert "/nowhere/engine" in detail(runs["absent"])


@pytest.mark.peer
def test_a_compiled_program_and_a_model_are_delivered(workspace: Workspace) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: NOT tested that a compiled program is delivered and runs")
    source = workspace.folder / "reads.c"
    source.write_text(COPIES)
    subprocess.run([compiler, "-o", workspace.folder / "reads", source], check=True)
    params = {"program": "reads", "args": ["{model}", "{output}"]}
    workspace.workload(engine="command", params=params)
    workspace.suite(protocol={"preset": "quick", "runs": 1, "min_s": 0.2, "warmup_s": 0.0})
    workspace.run()
    (run,) = workspace.runs()
    assert (run.record.status, codes(run)) == ("ok", set()), run.record.reasons
    assert run.record.engine["output"]["sha256"] == run.record.fingerprint.hard["model_sha256"]
    assert run.record.synthetic_model is True


# ------------------------------------------------------------------------------------- before anything is sent


def request(**params: Any) -> Request:
    return Request("mine", None, "x86_64", params, {}, STOP)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script"
    path.write_text("#!/bin/sh\n")
    return path


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "say which with params.program"),
        ({"progam": "x"}, "no parameter 'progam': did you mean 'program'"),
        ({"program": "x", "on_device": "/x"}, "not both"),
        ({"program": "/nowhere/x"}, "is no file here"),
        ({"program": "/"}, "is no file here"),
        ({"program": "a\0b"}, "params.program"),
        ({"program": "~nobody-of-this-name/x"}, "params.program"),
        ({"on_device": "bin/x"}, "params.on_device"),
        ({"on_device": "/x\0y"}, "params.on_device"),
        ({"on_device": "/x", "args": "-p 1"}, "params.args"),
        ({"on_device": "/x", "args": [True]}, "params.args.0"),
        ({"on_device": "/x", "args": [1.5]}, "params.args.0"),
        ({"on_device": "/x", "args": ["a\0b"]}, "params.args.0: a word has no zero byte"),
        ({"on_device": "/x", "args": ["\ud800"]}, "params.args.0"),
        ({"on_device": "/x", "args": ["x" * 40_000]}, "32 KiB at most"),
        ({"on_device": "/x", "args": ["--t={thread}"]}, "{thread}: did you mean 'threads'"),
        ({"on_device": "/x", "args": ["{model}"]}, "the workload names no model"),
        ({"on_device": "/x", "env": {"A": "{event}"}}, "{event}: did you mean 'events'"),
        ({"on_device": "/x", "env": {"A=B": "1"}}, "params.env"),
        ({"on_device": "/x", "env": {"MELT_EVENTS": "1"}}, "MELT_EVENTS is melt's own"),
        ({"on_device": "/x", "output": "llama_bench"}, "params.output"),
        ({"on_device": "/x", "threads": 0}, "params.threads"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(params: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        engine_named("command").prepare(request(**params))
    assert "workload 'mine'" in str(refused.value)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x7fELF\x02\x01" + bytes(12) + (183).to_bytes(2, "little"), "made for aarch64, and the device is x86_64"),
        (b"\x7fELF\x02\x01" + bytes(12) + (243).to_bytes(2, "little"), "made for machine 243"),
        (b"MZ", "neither a program of Linux nor a script"),
        (b"", "neither a program of Linux nor a script"),
    ],
)
def test_a_program_that_the_device_cannot_run_is_told_before_it_is_sent(script: Path, head: bytes, words: str) -> None:
    script.write_bytes(head)
    with pytest.raises(UsageError, match=words):
        engine_named("command").prepare(request(program=str(script)))


def test_the_identity_knows_what_runs_and_not_where_it_lies(script: Path, tmp_path: Path) -> None:
    def identity(**params: Any) -> dict[str, Any]:
        return dict(engine_named("command").prepare(request(**params)).identity)

    elsewhere = tmp_path / "elsewhere" / "another name"
    elsewhere.parent.mkdir()
    shutil.copy(script, elsewhere)
    mine = identity(program=str(script), args=["-x"], env={"A": "1"})
    assert mine == identity(program=str(elsewhere), args=["-x"], env={"A": "1"})
    assert str(tmp_path) not in json.dumps(mine)
    elsewhere.write_text("#!/bin/sh\nexit\n")
    others = [
        identity(program=str(elsewhere), args=["-x"], env={"A": "1"}),
        identity(program=str(script), args=["-y"], env={"A": "1"}),
        identity(program=str(script), args=["-x"], env={"A": "2"}),
        identity(program=str(script), args=["-x"], env={"A": "1"}, output="llama-bench"),
        identity(program=str(script), args=["-x"], env={"A": "1"}, threads=2),
        identity(on_device="/opt/a/engine", args=["-x"], env={"A": "1"}),
    ]
    assert mine not in others
    assert identity(on_device="/opt/a/engine") != identity(on_device="/usr/b/engine"), "which may be another build"


def test_a_program_is_found_from_where_melt_was_called(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(script.parent)
    assert engine_named("command").prepare(request(program=script.name)).files == {"program": script}


def test_what_a_placeholder_is_replaced_by_is_not_looked_at_again(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    gguf.make("llm-toy", model)
    asked = Request("mine", model, "x86_64", {"on_device": "/x", "args": ["{model}", "{job}{job}"]}, {}, STOP)
    engine = engine_named("command")
    command = engine.command(engine.prepare(asked), lambda role: f"/{{job}}/{role}", "/j/{model}")
    assert command.argv == ("/x", "/{job}/model", "/j/{model}/j/{model}")
    assert command.env == {"MELT_EVENTS": "/j/{model}/events.program.jsonl"}


def test_a_model_of_any_kind_may_be_run_and_one_that_melt_made_is_known(tmp_path: Path) -> None:
    model = tmp_path / "weights.bin"
    model.write_bytes(os.urandom(100))
    for name, made, kept in (("weights.bin", None, False), ("m.gguf", "llm-toy", True), ("broken.gguf", None, False)):
        model = tmp_path / name
        if made:
            gguf.make(made, model)
        else:
            model.write_bytes(b"GGUF" + os.urandom(50))
        prepared = engine_named("command").prepare(Request("mine", model, "x86_64", {"on_device": "/x"}, {}, STOP))
        assert prepared.synthetic is kept
        assert prepared.identity["model_sha256"]


def test_the_words_of_a_trial_are_the_programs_own() -> None:
    engine = engine_named("command")
    prepared = engine.prepare(request(on_device="/x", trial=["--version"]))
    assert engine.trial(prepared, str).argv == ("/x", "--version")


# -------------------------------------------------------------------------------------- what a program left behind

BEGAN = '{"t":100,"ev":"agent.engine.start","pid":7}'
ENDED = '{"t":900,"ev":"agent.engine.end","exit":0,"signal":null}'
LAST = '{"t":950,"ev":"agent.end"}'


def adopted(folder: Path, agent: list[str], stdout: bytes, own: bytes = b"") -> list[dict[str, Any]]:
    """The events of a job whose program printed `stdout` and wrote `own` into its file."""
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in agent))
    (folder / "stdout.log").write_bytes(stdout)
    (folder / "events.program.jsonl").write_bytes(own)
    engine = engine_named("command")
    assert engine.adopt(engine.prepare(request(on_device="/x")), folder) == {}
    assert (folder / "stdout.log").read_bytes() == stdout
    assert {path.name for path in folder.iterdir()} == {"events.jsonl", "stdout.log", "events.program.jsonl"}
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def line(t: int, ev: str, **more: Any) -> bytes:
    return json.dumps({"t": t, "ev": ev, **more}).encode() + b"\n"


def test_lines_of_both_sources_stand_in_order_of_time_among_the_agents(tmp_path: Path) -> None:
    printed = line(200, "load.begin") + b"chatter\n" + line(300, "load.end") + line(890, "done")
    own = line(400, "infer.begin", i=0) + line(500, "infer.end", i=0)
    events = adopted(tmp_path, [BEGAN, ENDED, LAST], printed, own)
    assert [(event["t"], event["ev"]) for event in events] == [
        (100, "agent.engine.start"),
        *((200, "load.begin"), (300, "load.end"), (400, "infer.begin")),
        (400, "mark"),
        *((500, "infer.end"), (890, "done"), (900, "agent.engine.end"), (950, "agent.end")),
    ]


def test_a_program_that_marks_its_phases_gets_no_mark_of_melts(tmp_path: Path) -> None:
    printed = line(200, "infer.begin", i=0) + line(300, "infer.end", i=0) + line(310, "mark", name="measure.begin")
    events = adopted(tmp_path, [BEGAN, ENDED, LAST], printed + line(400, "infer.batch", i=1, ns=[0, 5, 1, 5]))
    assert [event["t"] for event in events if event["ev"] == "mark"] == [310]


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        ([BEGAN], "the agent died with it"),
        ([BEGAN, ENDED.replace("0,", "3,"), LAST], "it ended with code 3"),
        ([BEGAN, '{"t":800,"ev":"agent.kill","why":"wall"}', ENDED, LAST], "the agent ended it"),
    ],
)
def test_no_end_is_made_up(tmp_path: Path, agent: list[str], why: str) -> None:
    events = adopted(tmp_path, agent, line(200, "infer.begin", i=0) + b'{"t":')
    assert not {"done", "error"} & {event["ev"] for event in events}, why
    assert sum(event["ev"] == "infer.begin" for event in events) == 1


def test_a_program_that_never_began_said_nothing(tmp_path: Path) -> None:
    refused = '{"t":100,"ev":"error","kind":"start","message":"no such file"}'
    events = adopted(tmp_path, [refused, LAST], line(50, "done") + line(120, "infer.begin", i=0))
    assert [event["ev"] for event in events] == ["error", "agent.end"]


def test_an_error_that_the_program_tells_is_its_end(tmp_path: Path) -> None:
    events = adopted(tmp_path, [BEGAN, ENDED, LAST], line(200, "error", kind="model", message="of another kind"))
    assert [event["ev"] for event in events if not event["ev"].startswith("agent.")] == ["error"]


@pytest.mark.parametrize("t", [99, 901, -(10**18), 2**80])
def test_a_stamp_of_another_clock_is_left_out_and_told(tmp_path: Path, t: int) -> None:
    events = adopted(tmp_path, [BEGAN, ENDED, LAST], line(t, "load.begin") + line(200, "load.end"))
    assert "load.begin" not in {event["ev"] for event in events}
    (error,) = (event for event in events if event["ev"] == "error")
    assert "CLOCK_MONOTONIC" in error["message"] or "broken" in error["message"]


def test_a_line_beyond_all_measure_is_skipped_and_the_next_is_read(tmp_path: Path) -> None:
    printed = b'{"t":200,"ev":"' + b"x" * (3 << 20) + b'"}\n' + line(300, "load.begin") + b"y" * (1 << 20)
    events = adopted(tmp_path, [BEGAN, ENDED, LAST], printed)
    assert [event["t"] for event in events if event["ev"] == "load.begin"] == [300]
