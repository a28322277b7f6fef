"""`melt model get`, `melt model info` and a workload's `hub:` as a person uses them, against a hub on loopback."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hubserver import COMMIT, serving
from workspace import Said, ended, until

from melt.makers import hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hubserver import Hub
    from workspace import Workspace

pytestmark = pytest.mark.peer

CHUNK = 10 << 20
"""What the library gathers before it writes."""
LARGE = random.Random(7).randbytes(2 * CHUNK + 4_000_001)
MIDDLE = LARGE[:100_000]
NAME = "org/repo/sub/tiny.gguf"


class Person:
    """Someone with a cache, an environment and a hub of their own, who calls `melt`."""

    def __init__(self, folder: Path, server: Hub) -> None:
        self.folder = folder
        self.hub = server
        self.cache = folder / "cache" / "melt" / "models" / "hub"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        self.environment = {
            **kept,
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(folder / "hf-home"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "NO_PROXY": "*",
        }
        self.children: list[subprocess.Popen[str]] = []

    def begin(self, *words: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "melt", *words],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.children.append(child)
        return child

    def melt(self, *words: str) -> Said:
        return ended(self.begin(*words))

    def get(self, *words: str) -> Said:
        return self.melt("model", "get", *words)

    def kept(self, commit: str = COMMIT, name: str = NAME) -> Path:
        organisation, repo, file = name.split("/", 2)
        return self.cache / organisation / repo / commit / file

    def parts(self) -> list[Path]:
        return sorted(self.folder.rglob(".*.part"))


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with serving() as server:
        here = Person(tmp_path, server)
        yield here
        server.pause_s = 0
        for child in here.children:
            if child.poll() is None:
                child.kill()
            child.communicate()


def got(said: Said) -> Any:
    assert said.code == 0, said
    return json.loads(said.stdout)


def taken_port(person: Person) -> str:
    return person.environment["HF_ENDPOINT"].rpartition(":")[2]


@pytest.fixture
def there(workspace: Workspace, tmp_path: Path) -> Iterator[tuple[Workspace, Hub]]:
    with serving() as server:
        workspace.environment |= Person(tmp_path, server).environment
        yield workspace, server


def test_a_file_is_fetched_into_the_cache_with_a_note_of_what_it_is(person: Person) -> None:
    sha256 = person.hub.put(NAME, MIDDLE)
    said = person.get(f"hf:{NAME}@main")
    assert said.code == 0, said
    assert person.kept().read_bytes() == MIDDLE
    note = {"source": f"hf:{NAME}@main", "commit": COMMIT, "sha256": sha256, "size_bytes": len(MIDDLE)}
    assert json.loads(hub.note_path(person.kept()).read_text()) == note
    assert said.stdout.splitlines() == [
        f"{person.kept()}: {len(MIDDLE)} bytes",
        f"  from hf:{NAME}@main, commit {COMMIT}",
        f"  sha256 {sha256}",
    ]
    # the library's own words and bars are not among melt's
    where = person.hub.address.removeprefix("http://")
    assert said.stderr.splitlines() == [f"fetching hf:{NAME}@main from {where}, once: {len(MIDDLE)} bytes"]
    assert got(person.get(f"hf:{NAME}@{COMMIT}", "--json")) == {"path": str(person.kept()), **note}
    assert person.parts() == []


def test_nothing_is_told_to_anybody_and_the_librarys_own_cache_stays_as_it_was(person: Person) -> None:
    person.hub.put(NAME, MIDDLE)
    assert person.get(NAME).code == 0
    assert [(one.method, one.path.split("?")[0]) for one in person.hub.asked] == [
        ("HEAD", "/org/repo/resolve/main/sub/tiny.gguf"),
        ("GET", f"/org/repo/resolve/{COMMIT}/sub/tiny.gguf"),
        ("GET", f"/storage/{NAME}"),
    ]
    for one in person.hub.asked:
        assert {word.strip().split("/")[0] for word in one.user_agent.split(";")} <= {"melt", "hf_hub", "python"}
    assert not (person.folder / "hf-home").exists()
    assert {path.name for path in (person.folder / "cache").iterdir()} == {"melt"}


def test_a_file_of_a_whole_commit_that_is_here_needs_no_network(person: Person) -> None:
    person.hub.put(NAME, MIDDLE)
    assert person.get(NAME).code == 0
    before = len(person.hub.asked)
    person.environment["HF_HUB_OFFLINE"] = "1"
    assert person.get(f"{NAME}@{COMMIT}").code == 0
    assert len(person.hub.asked) == before
    said = person.get(NAME)  # a branch may stand for another commit by now
    assert said.code == 2
    assert "HF_HUB_OFFLINE" in said.sentence
    assert f"the file of commit {COMMIT} is here: name that after the @" in said.sentence
    # whoever took away a byte gets the file again
    with person.kept().open("r+b") as file:
        file.truncate(len(MIDDLE) - 1)
    del person.environment["HF_HUB_OFFLINE"]
    assert person.get(f"{NAME}@{COMMIT}").code == 0
    assert person.kept().read_bytes() == MIDDLE


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_what_came_before_a_person_interrupts_is_kept(person: Person, number: signal.Signals, code: int) -> None:
    person.hub.put(NAME, LARGE)
    person.hub.pause_s = 0.005
    child = person.begin("model", "get", NAME)
    until(lambda: [part for part in person.parts() if part.stat().st_size >= CHUNK], "the first bytes")
    child.send_signal(number)
    said = ended(child)
    assert said.code == code, said
    if number != signal.SIGKILL:
        assert "are kept: the same command goes on from there" in said.sentence
    (part,) = person.parts()
    came = part.stat().st_size
    assert part.read_bytes() == LARGE[:came]
    person.hub.pause_s = 0
    person.hub.asked.clear()
    assert person.get(NAME).code == 0
    assert [one.range for one in person.hub.gets()] == [f"bytes={came}-"]
    assert person.kept().read_bytes() == LARGE


def test_a_hub_that_cannot_be_reached_is_named(person: Person) -> None:
    with socket.socket() as taken:  # a port where nobody listens, as long as this one has it
        taken.bind(("127.0.0.1", 0))
        person.environment["HF_ENDPOINT"] = f"http://u:secret@127.0.0.1:{taken.getsockname()[1]}"
        said = person.get(NAME)
    assert said.code == 4, said
    assert f"127.0.0.1:{taken_port(person)} cannot be reached" in said.sentence
    assert "mend the network, or set HF_ENDPOINT" in said.sentence
    assert "secret" not in said.stdout + said.stderr
    assert person.parts() == []


def test_without_the_library_it_is_named(person: Person) -> None:
    script = "import sys; sys.modules['huggingface_hub'] = None; from melt.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "model", "get", NAME],
        env=person.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip().endswith("pip install 'melt[hub]'")


def test_info_shows_where_a_file_is_from_as_long_as_it_is_that_file(person: Person, toy_model: Path) -> None:
    person.hub.put("org/repo/toy.onnx", toy_model.read_bytes())
    assert person.get("org/repo/toy.onnx@main", "--out", "m.onnx").code == 0
    assert f"from hf:org/repo/toy.onnx@main, commit {COMMIT}" in person.melt("model", "info", "m.onnx").stdout
    told = got(person.melt("model", "info", "m.onnx", "--json"))
    assert told["hub"]["commit"] == COMMIT
    assert told["hub"]["sha256"] == told["sha256"]
    assert person.melt("model", "make", "mlp", "--seed", "9", "--out", "m.onnx").code == 0
    said = person.melt("model", "info", "m.onnx")
    assert "is no longer the file that was fetched" in said.stderr
    assert "hf:" not in said.stdout
    assert got(person.melt("model", "info", "m.onnx", "--json"))["hub"] is None


def test_a_workload_names_a_file_of_a_hub(there: tuple[Workspace, Hub], toy_model: Path) -> None:
    workspace, server = there
    sha256 = server.put("org/repo/onnx/toy.onnx", toy_model.read_bytes())
    workspace.workload(model={"hub": "org/repo/onnx/toy.onnx@main"})
    said = workspace.run()
    assert said.code == 0, said
    assert f"hf:org/repo/onnx/toy.onnx@main: commit {COMMIT}, sha256 {sha256}" in said.stderr
    assert {run.record.fingerprint.hard["model_sha256"] for run in workspace.runs()} == {sha256}
    assert len(server.gets()) <= 1


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("org/repo/../x", "toy.yaml: model.hub: 'org/repo/../x' names no file of a hub"),
        ("org/repo/tox.onnx", "model.hub: org/repo has no file 'tox.onnx' at 'main': did you mean 'toy.onnx'?"),
    ],
)  # fmt: skip
def test_a_workload_whose_hub_has_no_such_thing_is_told_before_the_first_run(
    there: tuple[Workspace, Hub], source: str, sentence: str
) -> None:
    workspace, server = there
    server.put("org/repo/toy.onnx", MIDDLE)
    workspace.workload(model={"hub": source})
    said = workspace.run()
    assert said.code == 2, said
    assert sentence in said.sentence
    assert workspace.runs() == []


def test_a_workload_of_a_language_model_tells_what_is_none(there: tuple[Workspace, Hub]) -> None:
    workspace, server = there
    server.put("org/repo/m.bin", MIDDLE)
    workspace.workload(engine="llama.cpp", model={"hub": "org/repo/m.bin"})
    said = workspace.run()
    assert said.code == 2, said
    assert "not a GGUF model" in said.sentence


def test_a_hub_that_is_down_ends_a_run_before_it_begins(there: tuple[Workspace, Hub]) -> None:
    workspace, server = there
    server.put("org/repo/toy.onnx", MIDDLE)
    server.refuse["org/repo"] = (503, None)
    workspace.workload(model={"hub": "org/repo/toy.onnx"})
    said = workspace.run()
    assert said.code == 2, said
    assert "toy.yaml: model.hub:" in said.sentence
    assert "answers 503" in said.sentence
