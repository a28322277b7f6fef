"""The study's recipe: which path of which tree, from dumps of both published kinds, whole and hostile."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from melt.errors import UsageError
from melt.files.oasst1 import Recipe, build_set
from melt.files.prompts import read_prompts, write_prompts

if TYPE_CHECKING:
    from pathlib import Path

Node = dict[str, Any]


def node(text: str, *replies: Node, role: str = "prompter", **more: Any) -> Node:
    """A message as OASST1 writes it, with a number made from its words."""
    name = f"{abs(hash_of(text)):08x}-{text}"
    return {"message_id": name, "text": text, "role": role, "lang": "en", "replies": list(replies), **more}


def hash_of(text: str) -> int:
    return sum((i + 1) * ord(c) * 7919 for i, c in enumerate(text)) % (1 << 32)


def answer(text: str, *replies: Node, **more: Any) -> Node:
    return node(text, *replies, role="assistant", **more)


def chain(name: str, prompts: int, **more: Any) -> Node:
    """A tree of one path: `name 1`, an answer, `name 2` and so on."""
    below: tuple[Node, ...] = ()
    for number in range(prompts, 0, -1):
        below = (
            node(f"{name} {number}", *((answer(f"{name} answer {number}", *below, **more),) if below else ()), **more),
        )
    return below[0]


def flat(root: Node, parent: str | None = None) -> list[Node]:
    mine = {**{key: value for key, value in root.items() if key != "replies"}, "parent_id": parent}
    return [mine, *(one for reply in root["replies"] for one in flat(reply, root["message_id"]))]


def write(path: Path, lines: list[Any], *, packed: bool = False) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def trees(tmp_path: Path, *roots: Node, packed: bool = False) -> Path:
    lines = [
        {"message_tree_id": root["message_id"], "tree_state": "ready_for_export", "prompt": root} for root in roots
    ]
    return write(tmp_path / f"d.trees.jsonl{'.gz' if packed else ''}", lines, packed=packed)


def messages(tmp_path: Path, *roots: Node) -> Path:
    return write(tmp_path / "d.messages.jsonl", [one for root in roots for one in flat(root)])


def said(dump: Path, **recipe: Any) -> list[tuple[str, ...]]:
    built = build_set(dump, "x", Recipe(**{"conversations": 1, "turns_min": 2, "turns_max": 3, **recipe}))
    return [prompt.turns for prompt in built.prompts.prompts]


RANKED = node(
    "a",
    answer("worse", node("b worse", answer("c", node("d"))), rank=1),
    answer("best", node("b second", rank=1), node("b best", answer("unranked", node("c1")), rank=0), rank=0),
    answer("none", node("b none")),
)


# -------------------------------------------------------------------------------------------------------- the path


@pytest.mark.parametrize("dump", [trees, messages])
def test_the_best_ranked_replies_are_followed(dump: Any, tmp_path: Path) -> None:
    assert said(dump(tmp_path, RANKED)) == [("a", "b best", "c1")]
    assert said(dump(tmp_path, RANKED), turns_max=2) == [("a", "b best")]


@pytest.mark.parametrize("dump", [trees, messages])
def test_of_those_that_become_long_enough(dump: Any, tmp_path: Path) -> None:
    long = node("a", answer("x", node("short"), rank=0), answer("y", node("long", answer("z", node("end"))), rank=1))
    assert said(dump(tmp_path, long), turns_min=2) == [("a", "short")]
    assert said(dump(tmp_path, long), turns_min=3) == [("a", "long", "end")]


@pytest.mark.parametrize("dump", [trees, messages])
def test_what_is_deleted_refused_empty_or_in_another_language_is_on_no_path(dump: Any, tmp_path: Path) -> None:
    bad: list[Node] = [
        {"deleted": True},
        {"review_result": False},
        {"lang": "de"},
        {"text": "  "},
        {"text": "a\0b"},
        {"text": "\ud800"},
        {"text": 7},
        {"text": "x" * 60_000},
        {"role": "prompter"},
        {"role": None},
    ]
    for number, odd in enumerate(bad):
        root = node("a", answer("x", node("gone"), rank=0) | odd, answer("y", node("kept"), rank=1))
        assert said(dump(tmp_path, root)) == [("a", "kept")], number


def test_a_tree_that_is_not_finished_counts_for_nothing(tmp_path: Path) -> None:
    lines = [
        {"tree_state": "growing", "prompt": chain("a", 3)},
        {"tree_state": "ready_for_export", "prompt": chain("b", 3)},
    ]
    assert said(write(tmp_path / "x.jsonl", lines)) == [("b 1", "b 2", "b 3")]


# --------------------------------------------------------------------------------------------------------- the draw


def test_the_draw_depends_on_the_seed_alone_and_neither_on_order_nor_on_the_kind_of_dump(tmp_path: Path) -> None:
    roots = [chain(f"t{number}", 3) for number in range(40)]
    drawn = said(trees(tmp_path, *roots), conversations=8)
    assert len(set(drawn)) == 8
    assert said(trees(tmp_path, *reversed(roots)), conversations=8) == drawn
    assert said(trees(tmp_path, *roots, *roots, packed=True), conversations=8) == drawn
    assert said(messages(tmp_path, *roots), conversations=8) == drawn
    assert said(trees(tmp_path, *roots), conversations=8, seed=2) != drawn
    assert said(trees(tmp_path, *roots), conversations=3) == drawn[:3]


def test_the_studys_recipe_is_the_default(tmp_path: Path) -> None:
    roots = [chain(f"t{number}", 3 + number % 10) for number in range(200)]
    dump = trees(tmp_path, *roots, packed=True)
    built = build_set(dump, "oasst1", Recipe())
    assert len(built.prompts.prompts) == 50
    assert {len(prompt.turns) for prompt in built.prompts.prompts} == {6, 7, 8, 9, 10}
    assert (built.trees, built.fitting, built.passed_lines) == (200, 140, 0)
    assert all(prompt.name[:4] == f"{i:03d}-" for i, prompt in enumerate(built.prompts.prompts, 1))
    path = tmp_path / "oasst1.yaml"
    digest = write_prompts(built.prompts, path)
    assert read_prompts(path) == (built.prompts, digest)
    assert built.prompts.source.startswith("d.trees.jsonl.gz, sha256 ")


@pytest.mark.parametrize(
    "words",
    [
        "1e3",
        "010",
        "no",
        "~",
        "- a",
        "a: b",
        "#",
        "'\"",
        "a\x85b\u2028c\ufeff",
        "😀",
        "\x01\x7f",
        "a\n\n b \n",
        " x ",
        "null",
        ".5e3",
    ],
)
def test_whatever_was_said_is_what_is_read_again(words: str, tmp_path: Path) -> None:
    built = build_set(trees(tmp_path, node(words, answer("x", node("b")))), "x", Recipe(1, 2, 3))
    write_prompts(built.prompts, tmp_path / "x.yaml")
    assert read_prompts(tmp_path / "x.yaml")[0].prompts[0].turns == (words, "b")


# --------------------------------------------------------------------------------------------------------- hostility


def test_lines_that_cannot_be_understood_are_counted_and_passed(tmp_path: Path) -> None:
    deep = '{"prompt":' * 100_000
    odd = [
        "{",
        "[]",
        "7",
        '"x"',
        "{}",
        '{"prompt": 3}',
        deep,
        "9" * 10_000,
        '{"message_id": null}',
        "\x00",
        "x" * (17 << 20),
    ]
    dump = write(tmp_path / "x.jsonl", ["", *odd, "  ", {"prompt": chain("a", 3)}])
    dump.write_bytes(dump.read_bytes() + b'{"text": "\xff"}')
    built = build_set(dump, "x", Recipe(1, 2, 3))
    assert built.prompts.prompts[0].turns == ("a 1", "a 2", "a 3")
    assert built.passed_lines == len(odd) + 1


def test_flat_messages_in_a_circle_twice_or_without_a_root_do_no_harm(tmp_path: Path) -> None:
    lines = flat(chain("a", 3))
    circle = [{**lines[0], "message_id": "p", "parent_id": "q"}, {**lines[0], "message_id": "q", "parent_id": "p"}]
    odd = [{**lines[1], "message_id": "r", "parent_id": "nobody"}, {**lines[1], "message_id": "s", "parent_id": 7}]
    again = [{**line, "text": "twice"} for line in lines]
    unnamed = [{**lines[0], "message_id": "\0"}, {**lines[0], "message_id": "self", "parent_id": "self"}]
    dump = write(tmp_path / "x.jsonl", [*reversed(lines), *circle, *odd, *again, *unnamed])
    assert said(dump) == [("a 1", "a 2", "a 3")]


def test_a_tree_too_deep_for_recursion_is_walked(tmp_path: Path) -> None:
    lines = [{"message_id": "0", "parent_id": None, "text": "t0", "role": "prompter", "lang": "en"}]
    for n in range(1, 20_000):
        role = "assistant" if n % 2 else "prompter"
        lines.append({"message_id": f"{n}", "parent_id": f"{n - 1}", "text": f"t{n}", "role": role, "lang": "en"})
    assert said(write(tmp_path / "x.jsonl", lines), turns_min=90, turns_max=100)[0][-1] == "t198"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no OASST1 tree"),
        (b"\x89PNG\r\n", "no OASST1 tree"),
        (gzip.compress(json.dumps({"prompt": chain("a", 3)}).encode(), mtime=0)[:-12], "cut or damaged"),
        (b"\x1f\x8bnonsense", "cut or damaged"),
        (json.dumps({"prompt": chain("a", 1)}).encode(), "has 0 of the 1 conversations wanted"),
        (json.dumps({"prompt": chain("a", 3, lang="de")}).encode(), "language 'en'"),
        (
            json.dumps({"prompt": chain("a", 3)}).encode() + b"\n" + json.dumps(flat(chain("b", 3))[0]).encode(),
            "trees and",
        ),
    ],
)
def test_a_dump_that_will_not_do_is_told_in_a_sentence(data: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=why) as told:
        build_set(path, "x", Recipe(1, 2, 3))
    assert "\n" not in str(told.value)


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            build_set(path, "x", Recipe())
    with pytest.raises(UsageError, match="exchange"):
        build_set(tmp_path, "x", Recipe(1, 4, 3))
    built = build_set(trees(tmp_path, chain("a", 3)), "x", Recipe(1, 2, 3)).prompts
    with pytest.raises(UsageError, match="cannot be written"):
        write_prompts(built, tmp_path / "no" / "x.yaml")
    many = [node(f"{n} " + "w" * 49_000, answer(f"{n}", node(f"b{n}"))) for n in range(30)]
    big = build_set(trees(tmp_path, *many), "x", Recipe(30, 2, 3)).prompts
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        write_prompts(big, tmp_path / "big.yaml")
    assert not (tmp_path / "big.yaml").exists()
