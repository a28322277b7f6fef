"""What every engine promises: checked before the run, the same each time, and plain data in and out."""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from melt import makers
from melt.engines import ENGINES, Request, StopRules, engine_named
from melt.errors import UsageError
from melt.makers import gguf
from melt.readings import cpuinfo

if TYPE_CHECKING:
    from collections.abc import Callable

STOP = StopRules(warmup_s=0.5, warmup_n=3, min_s=3.0, min_n=11)


def onnxruntime(folder: Path) -> Request:
    makers.make("mlp", folder / "model.onnx")
    return Request("small", folder / "model.onnx", platform.machine(), {"threads": 2}, {}, STOP)


def llama_cpp(folder: Path) -> Request:
    gguf.make("llm-toy", folder / "model.gguf")
    features = cpuinfo.parse(Path("/proc/cpuinfo").read_bytes()).first("flags", "Features").split()
    params = {"threads": 2, "prompt_tokens": 8, "generate_tokens": 4}
    machine = platform.machine()
    return Request("small", folder / "model.gguf", machine, params, {}, STOP, cpu_features=frozenset(features))


def command_engine(folder: Path) -> Request:
    gguf.make("llm-toy", folder / "model.gguf")
    program = folder / "program"
    program.write_text("#!/bin/sh\n")
    params = {"threads": 2, "program": str(program), "args": ["--model", "{model}", "--events={events}"]}
    return Request("small", folder / "model.gguf", platform.machine(), params, {}, STOP)


def roofline(folder: Path) -> Request:
    del folder
    return Request("small", None, platform.machine(), {"threads": 2}, {}, STOP)


@dataclass(frozen=True)
class Example:
    """A request that an engine can carry out, and how another model takes the place of its, where it has one.

    `needed` are the parameters that it cannot do without.
    """

    request: Callable[[Path], Request]
    remake: Callable[[Path], object]
    needed: tuple[str, ...] = ()


EXAMPLES = {
    "command": Example(command_engine, lambda path: gguf.make("llm-toy", path, seed=2), needed=("program",)),
    "llama.cpp": Example(llama_cpp, lambda path: gguf.make("llm-toy", path, seed=2)),
    "onnxruntime": Example(onnxruntime, lambda path: makers.make("mlp", path, seed=2)),
    "roofline": Example(roofline, lambda _: None),
}


def place(role: str) -> str:
    return f"/device/blobs/{role}"


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def example(name: str, tmp_path: Path) -> Request:
    return EXAMPLES[name].request(tmp_path)


def test_every_engine_is_held_to_this_contract() -> None:
    assert set(EXAMPLES) == set(ENGINES)


def test_an_engine_is_found_by_its_name_and_fresh_each_time(name: str) -> None:
    first, second = engine_named(name), engine_named(name)
    assert first.name == name
    assert first is not second


def test_a_name_that_none_has_is_told_with_the_nearest(name: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{name}'"):
        engine_named(f"{name}x")


def test_preparing_gathers_files_that_exist_and_says_all_parameters(name: str, example: Request) -> None:
    prepared = engine_named(name).prepare(example)
    assert prepared.files.get("model") == example.model
    assert all(path.is_file() for path in prepared.files.values())
    assert set(example.params) < set(prepared.params)
    assert {key: prepared.params[key] for key in example.params} == example.params
    assert prepared.synthetic is (example.model is not None)


def test_preparing_twice_gives_the_same_identity_in_plain_data(name: str, example: Request) -> None:
    first, second = engine_named(name).prepare(example), engine_named(name).prepare(example)
    assert json.loads(json.dumps(first.identity)) == first.identity == second.identity
    assert first.files == second.files


def test_what_is_compared_differs_when_the_model_or_a_parameter_does(name: str, example: Request) -> None:
    whole = engine_named(name).prepare(example).identity
    needed = {key: example.params[key] for key in EXAMPLES[name].needed}
    without = engine_named(name).prepare(dataclasses.replace(example, params=needed)).identity
    assert whole != without
    if example.model is not None:
        EXAMPLES[name].remake(example.model)
        assert engine_named(name).prepare(example).identity != whole
    longer = dataclasses.replace(example, stop=dataclasses.replace(STOP, min_n=99))
    again = engine_named(name).prepare(example).identity
    assert engine_named(name).prepare(longer).identity == again, "how long it is measured is not what is measured"


def test_the_command_begins_with_the_program_and_names_every_file_where_it_is(
    name: str, example: Request, tmp_path: Path
) -> None:
    engine = engine_named(name)
    prepared = engine.prepare(example)
    command = engine.command(prepared, place, "/device/jobs/r1")
    assert command.argv[0] == place("program")
    assert place("program") in engine.trial(prepared, place).argv
    assert all(isinstance(word, str) for word in command.argv)
    for role in prepared.files:
        assert place(role) in command.argv
    words = (*command.argv, *command.env.values())
    assert any(word.startswith("/device/jobs/r1/events.") for word in words), "a file for events is named"
    assert str(tmp_path) not in " ".join(command.argv), "this computer's paths mean nothing there"
    assert engine.command(prepared, place, "/device/jobs/r1") == command


def test_a_library_that_is_on_the_device_is_not_delivered(name: str, example: Request) -> None:
    engine = engine_named(name)
    prepared = engine.prepare(dataclasses.replace(example, library="/usr/lib/libown.so"))
    delivered = engine.prepare(example).files
    assert len(prepared.files) == len(delivered) - 1
    assert "/usr/lib/libown.so" in engine.command(prepared, place, "/j").argv


AGENTS = (
    '{"t":100,"ev":"agent.engine.start","pid":7}',
    '{"t":900,"ev":"agent.engine.end","exit":0,"signal":null}',
    '{"t":950,"ev":"agent.end"}',
)


@pytest.mark.parametrize("data", [None, b"", b"\0\n", b'{"t":1', b"\xff" * 10_000, b"[" * 100_000, b"1,2\n" * 1000])
def test_whatever_a_job_leaves_is_adopted_without_an_error_and_without_losing_the_agents_words(
    name: str, example: Request, tmp_path: Path, data: bytes | None
) -> None:
    engine, folder = engine_named(name), tmp_path / "job"
    folder.mkdir()
    engine.adopt(engine.prepare(example), folder)
    events = folder / "events.jsonl"
    events.write_text("".join(f"{line}\n" for line in AGENTS))
    for left in ("stdout.log", "stderr.log", "result.txt", "events.program.jsonl") if data is not None else ():
        (folder / left).write_bytes(data or b"")
    told = engine.adopt(engine.prepare(example), folder)
    assert all(metric.value is None and metric.reason for metric in told.values())
    assert [line for line in events.read_text().splitlines() if line in AGENTS] == list(AGENTS)


@pytest.mark.parametrize("data", [None, b"", b"\0", b"not outputs", b"y float32 1x10 40\n", b"\xff" * 10_000])
def test_outputs_that_are_missing_or_broken_are_no_answer_and_never_an_error(
    name: str, example: Request, tmp_path: Path, data: bytes | None
) -> None:
    engine = engine_named(name)
    output = tmp_path / "output.bin"
    if data is not None:
        output.write_bytes(data)
    check = engine.check(engine.prepare(example), output)
    assert (check.agrees, check.max_abs_diff) == (None, None), check
    assert check.detail


def test_a_parameter_that_is_not_known_names_the_workload_and_the_nearest(name: str, example: Request) -> None:
    known = next(iter(example.params))
    wrong: dict[str, Any] = {f"{known}q": 1}
    with pytest.raises(UsageError, match=f"workload 'small'.*'{known}q': did you mean '{known}'"):
        engine_named(name).prepare(dataclasses.replace(example, params=wrong))


def test_a_model_that_is_not_there_is_named_and_one_that_is_not_wanted_too(
    name: str, example: Request, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.onnx"
    told = f"{gone} does not exist" if example.model is not None else "workload 'small': .*: leave 'model' out"
    with pytest.raises(UsageError, match=told):
        engine_named(name).prepare(dataclasses.replace(example, model=gone))
