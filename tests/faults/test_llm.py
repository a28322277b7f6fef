"""What a person, a file or a device can do wrong with a language model, through `melt run` as it is started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_engine import memory_group
from workspace import Workspace, ended, until

from melt.makers import gguf

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peer

PROTOCOL = {"preset": "quick", "runs": 1, "min_s": 0.2, "warmup_s": 0.0, "warmup_n": 0}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "toy.gguf"
    gguf.make("llm-toy", path)
    return path.read_bytes()


@pytest.fixture
def lab(workspace: Workspace, toy: bytes) -> Workspace:
    (workspace.folder / "toy.gguf").write_bytes(toy)
    workspace.suite(protocol=PROTOCOL)
    workload(workspace)
    return workspace


def workload(workspace: Workspace, **changes: Any) -> None:
    base = {"engine": "llama.cpp", "model": {"path": "toy.gguf"}, "prompt_tokens": 8, "generate_tokens": 8}
    workspace.workload(**{key: value for key, value in {**base, **changes}.items() if value is not None})


def refused(workspace: Workspace, *words: str) -> None:
    """Exit code 2, one sentence, and no run."""
    said = workspace.run()
    assert said.code == 2, said
    for word in words:
        assert word in said.sentence, said
    assert workspace.runs() == []


def typed(model: bytes, number: int) -> bytes:
    """The model with another type for one of its tensors."""
    name = b"output_norm.weight"
    at = model.index(name) + len(name) + 4 + 8  # after the number of dimensions, and the one that there is
    return model[:at] + number.to_bytes(4, "little") + model[at + 4 :]


def test_a_model_that_is_none_is_told_before_anything_is_sent(lab: Workspace, toy: bytes) -> None:
    for data, word in (
        (b"I am no model. " * 100, "not a GGUF"),
        (b"", "not a GGUF"),
        (toy[: len(toy) // 2], "cut short"),
        (toy[:100], "damaged"),
        (typed(toy, 99), "99, which is unknown"),
    ):
        (lab.folder / "toy.gguf").write_bytes(data)
        refused(lab, "toy.gguf", word)
    assert lab.jobs() == []


def test_what_only_the_library_knows_it_cannot_do_is_its_runs_reason(lab: Workspace, toy: bytes) -> None:
    for data, word in (
        (toy.replace(b"llama", b"marsa"), "unknown model architecture: 'marsa'"),
        (typed(toy, 26), "unsupported types"),  # I32: a type that the format has, where it cannot be
    ):
        (lab.folder / "toy.gguf").write_bytes(data)
        said = lab.run()
        assert said.code == 1, said
        assert "Traceback" not in said.stderr
        run = lab.runs()[-1]
        assert [reason.code for reason in run.record.reasons] == ["refused"]
        assert word in run.record.reasons[0].detail
        assert run.record.reasons[0].detail[:60] in said.stderr


def test_a_context_larger_than_memory_is_told_and_nothing_is_killed(lab: Workspace) -> None:
    workload(lab, params={"context": 1 << 20, "kv_k": "f32", "kv_v": "f32", "flash_attn": "off", "batch": 1 << 20})
    lab.suite(protocol=PROTOCOL, sweep={"params.ubatch": [1 << 20]})
    said = lab.run()
    assert said.code == 1, said
    (run,) = lab.runs()
    assert [reason.code for reason in run.record.reasons] == ["out_of_memory"], run.record
    assert "memory are left" in run.record.reasons[0].detail
    assert run.record.verdict == "invalid"  # not a token was generated


@pytest.mark.parametrize("tokens", [0, -1, 1.5, "many"])
def test_counts_that_are_none_are_told(lab: Workspace, tokens: Any) -> None:
    workload(lab, generate_tokens=tokens)
    refused(lab, "generate")


def prompts(workspace: Workspace, text: bytes) -> None:
    path = workspace.folder / "prompts" / "mine.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"schema: 1\nkind: prompts\nname: mine\nprompts:\n- name: one\n  turns: [" + text + b"]\n")
    workload(workspace, mode="prompt", prompt="mine/one", prompt_tokens=None)


def test_a_prompt_longer_than_the_context_is_told_before_anything_is_sent(lab: Workspace) -> None:
    prompts(lab, b'"' + b"rain " * 100_000 + b'"')
    refused(lab, "prompt 'one'", "shorten the text")
    workload(lab, mode="prompt", prompt="mine/one", prompt_tokens=None, params={"context": 256})
    refused(lab, "prompt 'one'", "params.context of 256")


def test_a_prompt_that_is_no_text_is_told(lab: Workspace) -> None:
    prompts(lab, b'"\xff\xfe"')
    refused(lab, "mine.yaml", "UTF-8")
    prompts(lab, b'"a\x00b"')
    refused(lab, "mine.yaml")
    prompts(lab, b'""')
    refused(lab, "mine.yaml", "turns")


def test_control_characters_reach_the_model(lab: Workspace) -> None:
    prompts(lab, rb'"a\x01\x1b[2J\u202e\u00a0b"')
    said = lab.run()
    assert said.code == 0, said
    assert "\x1b[2J" not in said.stdout + said.stderr
    (run,) = lab.runs()
    assert run.record.metrics["ttft_text_s"].value is not None


def test_more_threads_than_processors_are_warned_of_and_recorded(lab: Workspace) -> None:
    many = 2 * (os.cpu_count() or 1) + 1
    # so many threads on so few processors take seconds for a token: one batch will do
    workload(lab, mode="bench", prompt_tokens=64, generate_tokens=0, params={"threads": many})
    said = lab.run()
    assert f"{many} threads share" in said.stderr
    (run,) = lab.runs()
    assert any(f"{many} threads share" in caveat for caveat in run.record.caveats)
    assert run.record.engine["threads"] == many


@contextlib.contextmanager
def crowded(limit_bytes: int, pid: int) -> Iterator[None]:
    """A process in a group of so much memory, with another that takes more: the kernel ends the first at first."""
    group = memory_group(limit_bytes)
    take = (
        "import sys; sys.stdin.readline(); data = bytearray(int(sys.argv[1]))\n"
        "for at in range(0, len(data), 4096): data[at] = 1\nsys.stdin.readline()"
    )
    hog = subprocess.Popen([sys.executable, "-c", take, str(2 * limit_bytes)], stdin=subprocess.PIPE, text=True)
    assert hog.stdin is not None
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        for process in (pid, hog.pid):
            (group / "cgroup.procs").write_text(str(process))
        hog.stdin.write("\n")
        hog.stdin.flush()
        yield
    finally:
        hog.kill()
        hog.wait()
        with contextlib.suppress(BrokenPipeError):
            hog.stdin.close()
        until(lambda: removed(group) or None, "the group to be empty", 20)


def removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def test_a_model_killed_for_memory_while_it_decodes_keeps_its_tokens(lab: Workspace) -> None:
    workload(lab, generate_tokens=200)
    lab.suite(protocol={**PROTOCOL, "min_s": 30.0}, limits={"wall_s": 60.0})
    child = lab.begin()

    def engine() -> int | None:
        for job in lab.jobs():
            events = job / "events.jsonl"
            if events.exists() and events.read_bytes().count(b'"token"') > 400:
                (runner,) = (p for p in lab.processes() if "--prompt-tokens" in p.cmdline())
                return runner.pid
        return None

    with crowded(64 << 20, until(engine, "the engine to decode", 60)):
        said = ended(child, 60)
    assert said.code == 1, said
    assert "out_of_memory" in said.stderr
    (run,) = lab.runs()
    assert (run.record.status, run.record.verdict) == ("failed", "partial")
    assert [reason.code for reason in run.record.reasons] == ["out_of_memory"]
    kept = run.record.metrics["generated_tokens"].value
    assert kept is not None
    assert kept > 200
    assert run.record.metrics["decode_tok_per_s"].value is not None
    assert "1 cut short" in next(lab.results.glob("faults/*/report/report.md")).read_text()
    assert (run.path / "events.jsonl").read_bytes().count(b'"token"') >= kept
