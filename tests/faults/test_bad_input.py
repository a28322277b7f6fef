"""What a person can get wrong: exit code 2, one sentence that names it, and nothing begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from workspace import Workspace

pytestmark = pytest.mark.peer


def refused(workspace: Workspace, *words: str, more: tuple[str, ...] = ()) -> None:
    """`melt run` ends with 2 and one sentence that holds the words; no run was made, and no job."""
    said = workspace.run(*more)
    assert said.code == 2, said
    for word in words:
        assert word in said.sentence
    assert workspace.runs() == []
    assert workspace.jobs() == []


def test_a_typo_in_the_suite_names_the_file_the_key_and_the_nearest_one(workspace: Workspace) -> None:
    workspace.suite(protocl={"runs": 3})
    refused(workspace, "suite.yaml", "protocl", "did you mean 'protocol'?")


def test_a_workload_that_does_not_exist_is_named_with_the_nearest(workspace: Workspace) -> None:
    workspace.suite(workloads=["toi"])
    refused(workspace, "toi", "did you mean 'toy'?")


def test_a_missing_model_is_named(workspace: Workspace) -> None:
    workspace.workload(model={"path": "gone.onnx"})
    refused(workspace, "gone.onnx", "model.path")


def test_a_maker_that_does_not_exist_is_named_with_the_nearest(workspace: Workspace) -> None:
    workspace.workload(model={"make": "mobilenetv3"})
    refused(workspace, "mobilenetv3", "did you mean 'mobilenetv3-large'?")


@pytest.mark.parametrize("content", [b"", b"hello, I am text", b"\x08\x07" * 40, bytes(range(256)) * 20])
def test_a_file_that_is_not_onnx_is_named(workspace: Workspace, content: bytes) -> None:
    (workspace.folder / "toy.onnx").write_bytes(content)
    refused(workspace, "toy.onnx", "not a model")


def test_a_truncated_model_is_named(workspace: Workspace) -> None:
    whole = (workspace.folder / "toy.onnx").read_bytes()
    (workspace.folder / "toy.onnx").write_bytes(whole[: len(whole) // 2])
    refused(workspace, "toy.onnx", "not a model")


def test_a_wrong_input_shape_names_the_input_and_both_shapes(workspace: Workspace) -> None:
    workspace.workload(inputs={"input": {"shape": [1, 3, 10, 10]}})
    refused(workspace, "'input'", "1x784", "1x3x10x10", "inputs.input.shape")


def test_an_input_that_the_model_has_not_is_named(workspace: Workspace) -> None:
    workspace.workload(inputs={"inputs": {"seed": 2}})
    refused(workspace, "'inputs'", "did you mean 'input'?")


def test_a_parameter_that_the_engine_has_not_is_named(workspace: Workspace) -> None:
    workspace.workload(params={"thread": 2})
    refused(workspace, "thread", "did you mean 'threads'?")


def test_an_unknown_engine_is_named(workspace: Workspace) -> None:
    workspace.workload(engine="onnxruntme")
    refused(workspace, "onnxruntme", "did you mean 'onnxruntime'?")


def test_an_unknown_device_is_named_with_the_nearest(workspace: Workspace) -> None:
    workspace.lab()
    said = workspace.run("her")
    assert said.code == 2
    assert "'her'" in said.sentence
    assert "did you mean 'here'?" in said.sentence


def test_an_unknown_profile_is_named_with_the_nearest(workspace: Workspace) -> None:
    workspace.lab(profile="linus")
    refused(workspace, "linus", "did you mean 'linux'?")


def test_a_reading_that_does_not_exist_is_named(workspace: Workspace) -> None:
    workspace.profile(readings=["cpu-clok"])
    refused(workspace, "cpu-clok", "did you mean 'cpu-clock'?")


def test_a_results_folder_that_cannot_be_written_is_named(workspace: Workspace) -> None:
    (workspace.folder / "file").write_text("")
    said = workspace.run("--results", "file/results")
    assert said.code == 2
    assert "file/results" in said.sentence


def test_resuming_where_there_is_nothing_says_so(workspace: Workspace) -> None:
    refused(workspace, "no unfinished session", more=("--resume",))


def test_resuming_with_changed_files_is_refused(workspace: Workspace) -> None:
    workspace.profile(readings=["load"])
    workspace.suite(precheck={"max_wait_s": 0.0})
    assert workspace.run("--set", "protocol.runs=1").code == 0
    workspace.suite(precheck={"max_wait_s": 1.0})
    session = next((workspace.results / "faults").glob("*/session.json")).parent.name
    said = workspace.run("--resume", session)
    assert said.code == 2
    assert "other files" in said.sentence
