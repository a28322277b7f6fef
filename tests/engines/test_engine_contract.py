"""What every engine promises: checked before the run, the same each time, and plain data in and out."""

from __future__ import annotations

import dataclasses
import json
import platform
from typing import TYPE_CHECKING, Any

import pytest

from melt import makers
from melt.engines import ENGINES, Request, StopRules, engine_named
from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STOP = StopRules(warmup_s=0.5, warmup_n=3, min_s=3.0, min_n=11)


def onnxruntime(folder: Path) -> Request:
    makers.make("mlp", folder / "model.onnx")
    return Request("small", folder / "model.onnx", platform.machine(), {"threads": 2}, {}, STOP)


EXAMPLES: dict[str, Callable[[Path], Request]] = {"onnxruntime": onnxruntime}
"""A request that each engine can carry out."""


def place(role: str) -> str:
    return f"/device/blobs/{role}"


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def example(name: str, tmp_path: Path) -> Request:
    return EXAMPLES[name](tmp_path)


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
    assert prepared.files["model"] == example.model
    assert all(path.is_file() for path in prepared.files.values())
    assert "program" not in prepared.files, "the program is built for the device by whoever delivers it"
    assert set(example.params) < set(prepared.params)
    assert {key: prepared.params[key] for key in example.params} == example.params
    assert prepared.synthetic is True


def test_preparing_twice_gives_the_same_identity_in_plain_data(name: str, example: Request) -> None:
    first, second = engine_named(name).prepare(example), engine_named(name).prepare(example)
    assert json.loads(json.dumps(first.identity)) == first.identity == second.identity
    assert first.files == second.files


def test_what_is_compared_differs_when_the_model_or_a_parameter_does(name: str, example: Request) -> None:
    whole = engine_named(name).prepare(example).identity
    without = engine_named(name).prepare(dataclasses.replace(example, params={})).identity
    assert whole != without
    makers.make("mlp", example.model, seed=2)
    assert engine_named(name).prepare(example).identity != whole
    longer = dataclasses.replace(example, stop=dataclasses.replace(STOP, min_n=99))
    again = engine_named(name).prepare(example).identity
    assert engine_named(name).prepare(longer).identity == again, "how long it is measured is not what is measured"


def test_the_command_begins_with_the_program_and_names_every_file_where_it_is(name: str, example: Request) -> None:
    engine = engine_named(name)
    prepared = engine.prepare(example)
    command = engine.command(prepared, place, "/device/jobs/r1")
    assert command.argv[0] == place("program")
    assert all(isinstance(word, str) for word in command.argv)
    for role in prepared.files:
        assert place(role) in command.argv
    assert "/device/jobs/r1/events.jsonl" in command.argv
    assert str(example.model.parent) not in " ".join(command.argv), "this computer's paths mean nothing there"
    assert engine.command(prepared, place, "/device/jobs/r1") == command


def test_a_library_that_is_on_the_device_is_not_delivered(name: str, example: Request) -> None:
    engine = engine_named(name)
    prepared = engine.prepare(dataclasses.replace(example, library="/usr/lib/libown.so"))
    assert "library" not in prepared.files
    assert "/usr/lib/libown.so" in engine.command(prepared, place, "/j").argv


@pytest.mark.parametrize("data", [None, b"", b"\0", b"not outputs", b"y float32 1x10 40\n", b"\xff" * 10_000])
def test_outputs_that_are_missing_or_broken_are_no_answer_and_never_an_error(
    name: str, example: Request, data: bytes | None
) -> None:
    engine = engine_named(name)
    output = example.model.parent / "output.bin"
    if data is not None:
        output.write_bytes(data)
    check = engine.check(engine.prepare(example), output)
    assert (check.agrees, check.max_abs_diff) == (None, None)
    assert check.detail


def test_a_parameter_that_is_not_known_names_the_workload_and_the_nearest(name: str, example: Request) -> None:
    known = next(iter(example.params))
    wrong: dict[str, Any] = {f"{known}q": 1}
    with pytest.raises(UsageError, match=f"workload 'small'.*'{known}q': did you mean '{known}'"):
        engine_named(name).prepare(dataclasses.replace(example, params=wrong))


def test_a_model_that_is_not_there_is_named(name: str, example: Request) -> None:
    gone = example.model.with_name("gone.onnx")
    with pytest.raises(UsageError, match=f"{gone} does not exist"):
        engine_named(name).prepare(dataclasses.replace(example, model=gone))
