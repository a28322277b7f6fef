"""`melt prompts`: what is listed and counted, the picture, and a set by the study's recipe."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from host_llama import llama_cpp
from PIL import Image
from workspace import Said

from melt.cli.app import main
from melt.files.prompts import load_prompts
from melt.makers import gguf
from melt.places import shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Said]]:
    """Carries out `melt prompts` with these words in an empty folder, in this process: starting one takes longer."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def call(*argv: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["melt", "prompts", *map(str, argv)])
        capsys.readouterr()
        code = main()
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    yield call
    signal.signal(signal.SIGTERM, handler)


def data(said: Said) -> Any:
    assert said.code == 0, said.stderr
    return json.loads(said.stdout)


def a_dump(path: Path, trees: int) -> Path:
    """Trees of six prompts each, one a line."""
    lines = []
    for tree in range(trees):
        below: list[dict[str, Any]] = []
        for number in range(10, -1, -1):
            role = "assistant" if number % 2 else "prompter"
            below = [{"text": f"{tree} {number} " + "word " * number, "role": role, "lang": "en", "replies": below}]
            below[0]["message_id"] = f"{tree:08x}-{number}"
        lines.append(json.dumps({"tree_state": "ready_for_export", "prompt": below[0]}))
    path.write_text("\n".join([*lines, "{"]), encoding="utf-8")
    return path


def test_list_names_the_shipped_sets_and_those_that_are_here(prompts: Callable[..., Said], tmp_path: Path) -> None:
    rows = {row["set"]: row for row in data(prompts("list", "--json"))}
    assert (rows["sustained"]["conversations"], rows["sustained"]["prompts"]) == (1, 48)
    (tmp_path / "prompts").mkdir()
    shutil.copy(shipped("workloads") / "prompts" / "sustained.yaml", tmp_path / "prompts" / "mine.yaml")
    (tmp_path / "prompts" / "odd.yaml").write_text("schema: 1\nkind: prompts\n[bold]: x\n", encoding="utf-8")
    rows = {row["set"]: row for row in data(prompts("list", "--json"))}
    assert rows["mine"]["problem"] is None
    assert "[bold]" in rows["odd"]["problem"] or "odd.yaml" in rows["odd"]["problem"]
    shown = prompts("list")
    assert shown.code == 0
    assert "cannot be read" in shown.stdout
    assert "everyday" in shown.stdout


def test_info_counts_words_and_characters(prompts: Callable[..., Said]) -> None:
    told = data(prompts("info", "everyday/multi-turn", "--json"))
    (conversation,), digest = load_prompts("everyday/multi-turn", Path())
    counts = sorted(len(turn.split()) for turn in conversation.turns)
    assert (told["conversations"], told["prompts"], told["sha256"]) == (1, 5, digest)
    assert told["words"] == {"mean": sum(counts) / 5, "median": counts[2], "max": counts[4]}
    assert told["characters"]["max"] == max(map(len, conversation.turns))
    assert "tokens" not in told
    assert "1 conversation of 5 prompts" in prompts("info", "everyday/multi-turn").stdout


@pytest.mark.peer
def test_info_counts_tokens_as_llama_cpp_does(prompts: Callable[..., Said], tmp_path: Path) -> None:
    llama_cpp()  # skips loudly where it cannot be had
    model = tmp_path / "toy.gguf"
    gguf.make("llm-toy", model, quant="q4_0", seed=1)
    told = data(prompts("info", "everyday/multi-turn", "--model", model, "--json"))
    assert told["tokens"] == told["characters"], "the toy has a token for each byte"
    assert "tokens of a prompt" in prompts("info", "everyday/multi-turn", "--model", model).stdout


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["info", "everday"], "did you mean 'everyday'?"),
        (["info", "everyday/cod"], "did you mean 'code'?"),
        (["info", "no.yaml"], "does not exist"),
        (["info", "everyday", "--model", "no.gguf"], "no.gguf"),
        (["cdf", "everyday", "--out", "x.jpg"], ".png, .svg or .pdf"),
        (["cdf", "everyday", "--out", "no/x.png"], "cannot be written"),
        (["cdf", "everyday", "other", "--out", "x.png"], "no prompt set 'other'"),
        (["oasst1", "no.jsonl", "--out", "x.yaml"], "no.jsonl"),
        (["oasst1", "d.jsonl", "--out", "x.txt"], "NAME.yaml"),
        (["oasst1", "d.jsonl", "--out", "X Y.yaml"], "NAME.yaml"),
        (["oasst1", "d.jsonl", "--out", "x.yaml"], "has 3 of the 50"),
        (["oasst1", "d.jsonl", "--out", "x.yaml", "--conversations", "0"], "--conversations"),
        (["oasst1", "d.jsonl", "--out", "x.yaml", "--turns-min", "11"], "exchange"),
    ],
)
def test_a_mistake_is_one_sentence(argv: list[str], why: str, prompts: Callable[..., Said], tmp_path: Path) -> None:
    a_dump(tmp_path / "d.jsonl", 3)
    said = prompts(*argv)
    assert said.code == 2
    assert why in said.sentence
    assert not (tmp_path / "x.yaml").exists()
    assert not (tmp_path / "x.png").exists()


def test_a_set_by_the_recipe_is_built_listed_and_used_by_its_name(prompts: Callable[..., Said], tmp_path: Path) -> None:
    dump = a_dump(tmp_path / "d.jsonl", 30)
    (tmp_path / "prompts").mkdir()
    more = ("--conversations", 5, "--json")
    told = data(prompts("oasst1", dump, "--out", "prompts/oasst1.yaml", *more))
    assert (told["conversations"], told["prompts"], told["passed_lines"]) == (5, 30, 1)
    assert told["words"]["max"] == 12
    found, digest = load_prompts("oasst1", tmp_path)
    assert len(found) == 5
    assert digest == told["sha256"]
    again = data(prompts("oasst1", dump, "--out", "prompts/again.yaml", *more))
    assert again["words"] == told["words"]
    assert data(prompts("info", "oasst1", "--json"))["words"] == told["words"]
    said = prompts("oasst1", dump, "--out", "other.yaml", "--conversations", 5)
    assert "1 lines of" in said.stderr
    assert "drawn from 30 of 30 trees" in said.stdout


def test_the_picture_is_what_its_name_says_and_the_same_again(prompts: Callable[..., Said], tmp_path: Path) -> None:
    for kind in ("png", "svg", "pdf"):
        for name in ("one", "two"):
            assert prompts("cdf", "everyday", "sustained", "--out", f"{name}.{kind}").code == 0
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    with Image.open(io.BytesIO((tmp_path / "one.png").read_bytes())) as picture:
        assert picture.width > picture.height > 300
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10
    assert ET.parse(tmp_path / "one.svg").getroot().tag.endswith("svg")  # noqa: S314 - made a moment ago
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    sets = data(prompts("cdf", "everyday", "--out", "x.png", "--json"))["sets"]
    assert len(sets["everyday"]["words"]) == 9


def test_a_picture_of_odd_sets_is_drawn(prompts: Callable[..., Said], tmp_path: Path) -> None:
    head = "schema: 1\nkind: prompts\nname: x\nprompts:\n"
    texts = {
        "blank": '"\\n"',
        "one": "a",
        "many": "[" + ", ".join(["a b", '" "'] * 500) + "]",
        "long": '"' + "a " * 20_000 + '"',
    }
    names = []
    for name, text in texts.items():
        turns = text if text.startswith("[") else f"[{text}]"
        file = tmp_path / f"$x_{name} ✂ {'n' * 60}.yaml"
        file.write_text(f"{head}  - {{name: a, turns: {turns}}}\n", encoding="utf-8")
        names.append(file.name)
        assert prompts("cdf", file.name, "--out", f"{name}.png").code == 0
    assert prompts("cdf", *names, *(f"{name}#a" for name in names), "everyday", "--out", "all.png").code == 0
