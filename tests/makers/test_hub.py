"""Fetching from a hub: the real client against a hub on loopback that fails on purpose."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hubserver import COMMIT, serving
from hypothesis import given
from hypothesis import strategies as st

from melt.errors import Interrupted, MeltError, TransportError, UsageError
from melt.files import load_workload
from melt.makers import hub
from melt.makers.hub_download import need_hub
from melt.makers.hub_part import Part, alone
from melt.run import model_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hubserver import Hub

CHUNK = 10 << 20
"""What the library gathers before it writes."""
LARGE = random.Random(7).randbytes(2 * CHUNK + 4_000_001)
MIDDLE = LARGE[:100_000]
NEXT = "f" * 40
NAME = "org/repo/sub/tiny.gguf"


class Caller:
    """Calls `hub.get` in this process, as a workload's model is fetched."""

    def __init__(self, folder: Path, server: Hub) -> None:
        self.folder = folder
        self.hub = server
        self.cache = folder / "cache" / "melt" / "models" / "hub"
        self.told: list[str] = []

    def get(self, text: str = NAME, out: Path | None = None) -> hub.Fetched:
        self.told.clear()
        return hub.get(hub.parse_reference(text), self.told.append, out=out)

    def refused(self, kind: type[MeltError], text: str = NAME, out: Path | None = None) -> str:
        """The one sentence of a call that fails so."""
        with pytest.raises(kind) as caught:
            self.get(text, out)
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def parts(self) -> list[Path]:
        return sorted(self.folder.rglob(".*.part"))


@pytest.fixture(scope="session")
def one_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The hub of this process: the library reads its address once, when it is imported."""
    assert "huggingface_hub" not in sys.modules, "the library was imported before it was told of this hub"
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        for key in [key for key in os.environ if key.startswith("HF_")]:
            patch.delenv(key)
        patch.setenv("HF_ENDPOINT", server.address)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf-home")))
        patch.setenv("NO_PROXY", "*")
        need_hub()
        yield server


@pytest.fixture
def here(one_hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Caller:
    one_hub.begin_again()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Caller(tmp_path, one_hub)


# ------------------------------------------------------------------------------------------------- references


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:org/repo/m.gguf", hub.Reference("org/repo", "m.gguf", "main")),
        ("org/repo/m.gguf@v1.0", hub.Reference("org/repo", "m.gguf", "v1.0")),
        ("hf:a-b.c/R-1.5_x/q4/k/m_Q4.gguf@refs/pr/3", hub.Reference("a-b.c/R-1.5_x", "q4/k/m_Q4.gguf", "refs/pr/3")),
        (f"org/repo/m.gguf@{COMMIT}", hub.Reference("org/repo", "m.gguf", COMMIT)),
    ],
)  # fmt: skip
def test_a_reference_names_a_file_of_a_repository_at_a_revision(text: str, expected: hub.Reference) -> None:
    found = hub.parse_reference(text)
    assert found == expected
    assert hub.parse_reference(str(found)) == found
    assert found.is_commit == (found.revision == COMMIT)


BAD = [
    ("", "organisation"),
    ("hf:", "organisation"),
    ("org", "repository"),
    ("org/repo", "the file is missing"),
    ("org/repo/", "the file is missing"),
    ("org//m.gguf", "repository"),
    ("/etc/passwd/x", "organisation"),
    ("../../etc/passwd", "organisation"),
    ("org/../x/m.gguf", "repository"),
    ("org/repo/../../../m.gguf", "part of a file's name"),
    ("org/repo/a..b", "part of a file's name"),
    ("org/repo//m.gguf", "part of a file's name"),
    ("org/repo/sub/", "part of a file's name"),
    ("org/repo/.m.part", "part of a file's name"),
    ("org/repo/a b.gguf", "part of a file's name"),
    ("org/repo/a\nb.gguf", "part of a file's name"),
    ("org/repo/a%2e%2e.gguf", "part of a file's name"),
    ("org/repo/m\u00e9.gguf", "part of a file's name"),
    ("org/repo/m.gguf.hub.json", "melt's own notes"),
    ("org/repo/m.gguf@", "branch, tag or commit"),
    ("org/repo/m.gguf@a..b", "branch, tag or commit"),
    ("org/repo/m.gguf@a//b", "branch, tag or commit"),
    ("org/repo/m.gguf@-x", "branch, tag or commit"),
    ("org/repo/m.gguf@a@b", "branch, tag or commit"),
    ("org/re--po/m.gguf", "repository"),
    ("org/repo.git/m.gguf", "repository"),
    ("https://huggingface.co/org/repo/m.gguf", "organisation"),
    (f"org/{'r' * 97}/m.gguf", "repository"),
    (f"org/repo/{'m' * 201}", "part of a file's name"),
    ("org/repo/" + "d/" * 300 + "m.gguf", "longer than 512"),
]


@pytest.mark.parametrize(("text", "why"), BAD)
def test_what_is_no_reference_is_refused_in_one_sentence(text: str, why: str) -> None:
    with pytest.raises(UsageError, match="write hf:ORG/REPO/FILE@REVISION") as caught:
        hub.parse_reference(text)
    assert why in str(caught.value)
    assert len(str(caught.value)) < 900


WORD = st.text(alphabet="ab.-_/@\\%:~ \x00\n\u00e9", max_size=12)


@given(st.one_of(st.text(max_size=600), st.lists(WORD, max_size=6).map("/".join), st.tuples(WORD, WORD).map("@".join)))
def test_whatever_is_written_never_leaves_the_folder_it_belongs_to(text: str) -> None:
    try:
        found = hub.parse_reference(text)
    except UsageError:
        return
    place = os.path.normpath(f"/cache/{found.repo}/{COMMIT}/{found.file}")
    assert place == f"/cache/{found.repo}/{COMMIT}/{found.file}"
    assert hub.parse_reference(str(found)) == found


# --------------------------------------------------------------------------------------------------- fetching


def test_a_branch_that_moved_on_is_fetched_again_only_where_the_file_is_another(here: Caller) -> None:
    here.hub.put(NAME, MIDDLE)
    first = here.get()
    here.hub.revisions["main"] = NEXT
    second = here.get()
    assert (first.provenance.commit, second.provenance.commit) == (COMMIT, NEXT)
    assert second.path == here.cache / "org/repo" / NEXT / "sub/tiny.gguf"
    assert second.path.samefile(first.path)
    assert len(here.hub.gets()) == 1
    here.hub.revisions["main"] = "e" * 40
    sha256 = here.hub.put(NAME, MIDDLE[::-1])
    third = here.get()
    assert third.provenance.sha256 == sha256
    assert third.path.read_bytes() == MIDDLE[::-1]
    assert first.path.read_bytes() == MIDDLE


def test_the_longest_reference_is_fetched_like_any_other(here: Caller) -> None:
    words = [str(n % 10) * 60 for n in range(8)]
    name = "/".join([*words, "f" * (hub.MAX_LENGTH - len("/".join(words)) - 1)])
    assert len(name) == hub.MAX_LENGTH
    here.hub.put(name, MIDDLE)
    fetched = here.get(f"hf:{name}")
    assert fetched.path.read_bytes() == MIDDLE
    assert hub.provenance(fetched.path) == fetched.provenance


def test_a_small_file_has_no_sha256_on_the_hub_and_that_is_said(here: Caller) -> None:
    here.hub.put("org/repo/config.json", b"{}\n")
    assert here.get("org/repo/config.json").provenance.sha256 == hashlib.sha256(b"{}\n").hexdigest()
    assert "compared with nothing" in here.told[-1]
    here.hub.put("org/repo/empty", b"")
    fetched = here.get("org/repo/empty")
    assert (fetched.path.read_bytes(), fetched.provenance.size_bytes) == (b"", 0)


# ------------------------------------------------------------------------------------------------ interruption


def test_a_line_that_breaks_is_taken_up_where_it_broke(here: Caller) -> None:
    here.hub.put(NAME, LARGE)
    here.hub.cut_after_bytes, here.hub.cuts_left = CHUNK + 100_000, 1
    assert here.get().path.read_bytes() == LARGE
    assert [one.range for one in here.hub.gets()] == [None, f"bytes={CHUNK}-"]


def test_a_download_that_failed_is_gone_on_with_by_the_next_call(here: Caller) -> None:
    here.hub.put(NAME, LARGE)
    here.hub.cut_after_bytes = CHUNK + 100_000

    def then_fail(_sent: int) -> None:
        here.hub.status_of_storage = 500

    here.hub.during = then_fail
    assert "answers 500" in here.refused(TransportError)
    assert here.told[-1] == "10.5 MB of sub/tiny.gguf are kept: the same command goes on from there"
    (part,) = here.parts()
    assert part.read_bytes() == LARGE[:CHUNK]
    here.hub.during = here.hub.cut_after_bytes = here.hub.status_of_storage = None
    here.hub.asked.clear()
    assert here.get().path.read_bytes() == LARGE
    assert here.told[0].endswith(", going on from 10.5 MB")
    assert [one.range for one in here.hub.gets()] == [f"bytes={CHUNK}-"]
    assert here.parts() == []


def test_a_server_that_knows_no_ranges_sends_all_again(here: Caller) -> None:
    here.hub.put(NAME, LARGE)
    here.hub.cut_after_bytes, here.hub.cuts_left, here.hub.ranges = CHUNK + 100_000, 1, False
    assert here.get().path.read_bytes() == LARGE


def part_way(here: Caller, out: Path | None = None) -> Path:
    """Leaves the part of a download that was broken off."""
    here.hub.put(NAME, LARGE)

    def then_fail(_sent: int) -> None:
        here.hub.status_of_storage = 500

    here.hub.cut_after_bytes, here.hub.during = CHUNK + 100_000, then_fail
    here.refused(TransportError, out=out)
    here.hub.during = here.hub.cut_after_bytes = here.hub.status_of_storage = None
    (part,) = here.parts()
    assert part.stat().st_size == CHUNK
    return part


def test_a_part_of_another_commits_file_is_not_gone_on_with(here: Caller) -> None:
    target = here.folder / "m.gguf"
    part_way(here, target)
    here.hub.revisions["main"] = NEXT
    here.hub.put(NAME, LARGE[::-1])
    here.get(out=target)
    assert target.read_bytes() == LARGE[::-1]
    assert here.hub.gets()[-1].range is None


def test_a_part_that_is_damaged_is_found_out_by_the_hash(here: Caller) -> None:
    with part_way(here).open("r+b") as file:
        file.write(b"X" * 100)
    assert "and had to have" in here.refused(TransportError)
    assert here.parts() == []
    assert here.get().path.read_bytes() == LARGE


def test_a_part_that_is_longer_than_the_file_is_begun_again(here: Caller) -> None:
    with part_way(here).open("r+b") as file:
        file.truncate(len(LARGE) + 1)
    assert here.get().path.read_bytes() == LARGE


def test_two_at_once_fetch_it_once(here: Caller) -> None:
    here.hub.put(NAME, MIDDLE)
    waits = threading.Event()
    here.hub.during = lambda _: None if waits.wait(60) else pytest.fail("nobody waited")
    told: list[str] = []

    def say(sentence: str) -> None:
        told.append(sentence)
        if sentence.startswith("waiting for another melt"):
            waits.set()

    reference = hub.parse_reference(NAME)
    with ThreadPoolExecutor(2) as pool:
        both = [call.result(90) for call in [pool.submit(hub.get, reference, say) for _ in range(2)]]
    assert waits.is_set()
    assert both[0] == both[1]
    assert both[0].path.read_bytes() == MIDDLE
    assert len(here.hub.gets()) == 1
    assert here.parts() == []


def test_whoever_waits_goes_on_when_the_other_is_gone_and_may_be_told_to_stop(tmp_path: Path) -> None:
    path, told = tmp_path / ".m.part", list[str]()
    with alone(path, told.append, lambda: False) as part:
        part.write(b"some")
        with pytest.raises(Interrupted), alone(path, told.append, lambda: bool(told)):
            pytest.fail("two have the same part")
        path.rename(tmp_path / "m")  # as a download that has ended does
        with alone(path, told.append, lambda: False) as other:
            assert other.size_bytes() == 0
    assert told == ["waiting for another melt that fetches the same file"]
    assert not path.exists(), "an empty part was left"
    assert (tmp_path / "m").read_bytes() == b"some"


def test_a_part_tells_how_far_it_has_come_and_hears_that_it_is_to_stop(tmp_path: Path) -> None:
    told, stop = list[str](), list[bool]()
    with Part(tmp_path / ".m.part", lambda: bool(stop)) as part:
        part.watched("m.gguf", 8_000_000, told.append)
        part.write(bytes(2_000_000))
        assert told == [], "told before there was a reason to"
        part._told_s -= 3600
        part.write(bytes(2_000_000))
        part.write(bytes(2_000_000))
        assert told == ["m.gguf: 4.0 MB of 8.0 MB"]
        stop.append(True)
        with pytest.raises(Interrupted):
            part.write(b"more")
        assert part.size_bytes() == 6_000_000


# ------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    "address", ["", "localhost:1", "ftp://hub", "http://[", "http://h:x", "https://", "http://a b"]
)
def test_an_address_that_is_none_is_told(here: Caller, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "HF_ENDPOINT is set and is no address of a hub" in here.refused(UsageError)


def test_a_hub_that_is_silent_is_given_up(here: Caller) -> None:
    here.hub.put(NAME, MIDDLE)
    here.hub.silent_s = 12
    assert "cannot be reached" in here.refused(TransportError)


@pytest.mark.parametrize(
    ("status", "code", "kind", "sentence"),
    [
        (404, "RepoNotFound", UsageError, "has no repository org/repo, or not for you: correct the name, or set HF_"),
        (401, "RepoNotFound", UsageError, "has no repository org/repo, or not for you"),
        (401, None, UsageError, "refuses hf:org/repo/sub/tiny.gguf@main (401): set HF_TOKEN"),
        (403, "GatedRepo", UsageError, "org/repo is for those who agreed to its terms"),
        (403, None, UsageError, "refuses hf:org/repo/sub/tiny.gguf@main (403): set HF_TOKEN"),
        (404, None, TransportError, "answers 404"),
        (500, None, TransportError, "answers 500 when asked for hf:org/repo/sub/tiny.gguf@main: try again later"),
        (503, None, TransportError, "answers 503"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_in_one_sentence(
    here: Caller, status: int, code: str | None, kind: type[MeltError], sentence: str
) -> None:
    here.hub.put(NAME, MIDDLE)
    here.hub.refuse["org/repo"] = (status, code)
    assert sentence in here.refused(kind)
    assert here.told == []


def test_a_token_opens_what_is_private_and_goes_to_the_hub_alone(here: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    here.hub.put(NAME, MIDDLE)
    word = "hf_" + "x" * 34
    here.hub.token = word
    assert "set HF_TOKEN" in here.refused(UsageError)
    monkeypatch.setenv("HF_TOKEN", word)
    here.get()
    assert [one.authorization for one in here.hub.gets()] == [None]
    assert here.hub.gets()[0].host.startswith("localhost")
    assert here.hub.asked[-2].authorization == f"Bearer {word}"


def test_a_token_that_cannot_be_sent_is_told_and_not_shown(here: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    here.hub.put(NAME, MIDDLE)
    monkeypatch.setenv("HF_TOKEN", "hf_\u00e9\u4e2d")
    sentence = here.refused(UsageError)
    assert "look at HF_TOKEN" in sentence
    assert "\u4e2d" not in sentence


def test_a_revision_and_a_file_that_are_not_there_are_told_with_the_nearest(here: Caller) -> None:
    here.hub.put("org/repo/tiny-q4_0.gguf", MIDDLE)
    here.hub.put("org/repo/README.md", b"read\n")
    sentence = here.refused(UsageError, "org/repo/tiny-q4_0.gguf@v9")
    assert "org/repo has no revision 'v9': name a branch, a tag or a commit after the @" in sentence
    sentence = here.refused(UsageError, "org/repo/tiny-q4-0.gguf")
    assert "has no file 'tiny-q4-0.gguf' at 'main': did you mean 'tiny-q4_0.gguf'?" in sentence
    sentence = here.refused(UsageError, "org/repo/entirely-else.gguf")
    assert "valid: tiny-q4_0.gguf" in sentence
    assert "README" not in sentence


@pytest.mark.parametrize(
    ("instead", "sentence"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "and had to have"),
        (lambda data: data[: len(data) // 2], "which is not what it had said"),
        (lambda data: data + b"more", "which is not what it had said"),
        (lambda _: b"<html>log in to the hotel's network</html>", "which is not what it had said"),
    ],
    ids=["another byte", "shorter", "longer", "another thing"],
)
def test_what_is_not_the_hubs_file_is_removed(here: Caller, instead: Callable[[bytes], bytes], sentence: str) -> None:
    here.hub.put(NAME, MIDDLE)
    here.hub.instead = instead
    old = here.folder / "old.gguf"
    old.write_bytes(b"what was there")
    for out in (None, old):
        told = here.refused(TransportError, out=out)
        assert sentence in told
        assert "it is removed, try again" in told
        assert here.parts() == []
    assert old.read_bytes() == b"what was there"
    assert list(here.folder.rglob("*.hub.json")) == list(here.cache.rglob("*.gguf")) == []
    here.hub.instead = None
    here.get(out=old)
    assert old.read_bytes() == MIDDLE


@pytest.mark.parametrize("commit", ["../../../../outside", "main", "A" * 40, NEXT])
def test_a_hub_that_tells_another_commit_than_asked_for_gets_nothing_written(here: Caller, commit: str) -> None:
    here.hub.put(NAME, MIDDLE)
    here.hub.commit_header = commit
    assert "commit" in here.refused(TransportError, f"{NAME}@{COMMIT}")
    if commit != NEXT:
        assert "not as a hub does" in here.refused(TransportError)
    assert here.hub.gets() == []
    assert not list(here.folder.rglob("*.gguf*"))


def test_a_disk_that_is_full_or_fills_up_is_told(here: Caller, tiny_disk: Path) -> None:
    target = tiny_disk / "m.gguf"
    here.hub.put(NAME, LARGE)
    sentence = here.refused(UsageError, out=target)
    assert f"folder {tiny_disk} has no space for the model: {len(LARGE)} more bytes are to come" in sentence
    assert list(tiny_disk.iterdir()) == []
    here.hub.put(NAME, LARGE[:900_000])
    here.hub.during = lambda _: (tiny_disk / "other").write_bytes(bytes(500_000))
    sentence = here.refused(UsageError, out=target)
    assert "no space left on device: make room; " in sentence
    assert "are kept, and the same command goes on from there" in sentence
    (part,) = here.parts()
    came = part.stat().st_size
    assert part.read_bytes() == LARGE[:came]
    here.hub.during = None
    (tiny_disk / "other").unlink()
    here.get(out=target)
    assert target.read_bytes() == LARGE[:900_000]
    assert here.hub.gets()[-1].range == f"bytes={came}-"


def test_out_names_the_file_and_the_cache_is_used_where_it_has_it(here: Caller) -> None:
    here.hub.put(NAME, MIDDLE)
    target = here.folder / "m.gguf"
    assert here.get(out=target).path == target
    assert target.read_bytes() == MIDDLE
    assert not list(here.cache.rglob("*.gguf"))
    kept = here.get().path
    target.unlink()
    hub.note_path(target).unlink()
    before = len(here.hub.asked)
    fetched = here.get(f"{NAME}@{COMMIT}", target)
    assert len(here.hub.asked) == before
    assert target.read_bytes() == MIDDLE
    assert hub.provenance(target) == fetched.provenance
    assert not target.samefile(kept), "a person may change their file, and the cache's would change with it"
    assert "does not exist; make it first" in here.refused(UsageError, out=here.folder / "absent" / "m.gguf")
    assert "is a folder; name a file in it" in here.refused(UsageError, out=here.folder)


def test_out_that_is_there_already_is_fetched_again_only_if_it_is_another(here: Caller) -> None:
    here.hub.put(NAME, MIDDLE)
    here.hub.put("org/repo/other.gguf", MIDDLE[::-1])
    target = here.folder / "m.gguf"
    first = here.get(out=target)
    assert here.get(out=target) == first
    assert len(here.hub.gets()) == 1
    with target.open("r+b") as file:
        file.write(b"X")
    here.get(out=target)
    assert target.read_bytes() == MIDDLE
    here.get("org/repo/other.gguf", target)
    assert target.read_bytes() == MIDDLE[::-1]
    here.get(out=target)
    assert target.read_bytes() == MIDDLE
    assert len(here.hub.gets()) == 4


def test_a_workloads_model_is_fetched_until_its_run_is_told_to_stop(here: Caller) -> None:
    here.hub.put("org/repo/large.gguf", LARGE)
    file = here.folder / "w.yaml"
    file.write_text("schema: 1\nkind: workload\nname: w\nengine: llama.cpp\nmodel: {hub: org/repo/large.gguf@main}\n")
    workload, _ = load_workload(str(file), here.folder)
    with pytest.raises(Interrupted):
        model_file(workload, file, here.told.append, lambda: bool(here.hub.gets()))
    assert here.told[0].startswith("fetching hf:org/repo/large.gguf@main")
    here.told.clear()
    path = model_file(workload, file, here.told.append)
    assert path is not None
    assert path.read_bytes() == LARGE
    sha256 = hashlib.sha256(LARGE).hexdigest()
    assert here.told[-1] == f"hf:org/repo/large.gguf@main: commit {COMMIT}, sha256 {sha256}"


def test_a_cache_that_cannot_be_written_is_told(here: Caller) -> None:
    here.hub.put(NAME, MIDDLE)
    here.cache.parent.mkdir(parents=True)
    here.cache.write_text("a file where a folder has to be")
    assert "cannot be kept there (Not a directory)" in here.refused(UsageError)


def test_a_note_that_is_damaged_is_no_note(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    note = hub.Provenance(source="hf:o/r/m.gguf@main", commit=COMMIT, sha256="a" * 64, size_bytes=3)
    good = note.model_dump()
    hub.note_path(path).write_text(json.dumps(good))
    assert hub.provenance(path) == note
    changes = (
        {"commit": "main"},
        {"commit": f"{COMMIT}\n"},
        {"sha256": "x"},
        {"size_bytes": -1},
        {"more": 1},
        {"source": "x" * 9999},
    )
    for bad in ("", "{", "[]", *(json.dumps({**good, **change}) for change in changes)):
        hub.note_path(path).write_text(bad)
        assert hub.provenance(path) is None, bad
