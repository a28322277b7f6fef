"""Prompt sets: found by name or path, read strictly, every word as it was written; and what melt ships."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.errors import UsageError
from melt.files.prompts import (
    MOST_PROMPTS,
    Conversation,
    PromptSet,
    load_prompts,
    prompt_folders,
    read_prompts,
    write_prompts,
)
from melt.places import shipped

SHIPPED = shipped("workloads") / "prompts"


def a_set(name: str = "mine", **changes: Any) -> dict[str, Any]:
    prompts = [{"name": "one", "turns": ["Hello?"]}, {"name": "two", "system": "Be brief.", "turns": ["a", "b"]}]
    return {"schema": 1, "kind": "prompts", "name": name, "prompts": prompts, **changes}


def write(path: Path, data: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def refused(reference: str, beside: Path) -> str:
    with pytest.raises(UsageError) as told:
        load_prompts(reference, beside)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 2000
    return str(told.value)


# ------------------------------------------------------------------------------------------------------ where it is


def test_a_set_beside_the_workload_wins_over_the_shipped_one_of_that_name(tmp_path: Path) -> None:
    path = write(tmp_path / "prompts" / "everyday.yaml", a_set("everyday"))
    found, digest = load_prompts("everyday", tmp_path)
    assert [prompt.name for prompt in found] == ["one", "two"]
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_prompts("everyday/code", tmp_path / "elsewhere")[0][0].name == "code"
    assert prompt_folders(SHIPPED.parent) == [SHIPPED]


def test_one_prompt_of_a_set_or_all_of_them_by_name_or_by_path(tmp_path: Path) -> None:
    write(tmp_path / "prompts" / "mine.yaml", a_set())
    path = write(tmp_path / "sets" / "odd # name.yaml", a_set())
    two = (Conversation(name="two", system="Be brief.", turns=("a", "b")),)
    assert load_prompts("mine/two", tmp_path)[0] == two
    assert load_prompts("sets/odd # name.yaml#two", tmp_path)[0] == two
    assert load_prompts(f"{path}#two", Path("/nowhere"))[0] == two
    assert len(load_prompts("sets/odd # name.yaml", tmp_path)[0]) == 2


def test_what_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "prompts" / "mine.yaml", a_set())
    assert "did you mean 'everyday'?" in refused("every-day", tmp_path)
    assert "did you mean 'mine'?" in refused("mime/one", tmp_path)
    assert "mine.yaml has no prompt 'tow': did you mean 'two'?" in refused("mine/tow", tmp_path)
    assert "no prompt 'two/x'" in refused("mine/two/x", tmp_path)
    assert "no prompt ''" in refused("mine/", tmp_path)
    assert "no prompt 'tow'" in refused("prompts/mine.yaml#tow", tmp_path)
    assert "does not exist" in refused("other.yaml", tmp_path)
    for word in (
        "",
        "/",
        "..",
        "../mine",
        "a\0b",
        "\ud800",
        "x" * 10_000,
        "\n",
        "#",
        "*",
        "\0.yaml",
        "~nobody-x/a.yaml",
    ):
        refused(word, tmp_path)


# ------------------------------------------------------------------------------------------------------ what it says


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"prompts": []}, "prompts"),
        ({"prompts": [{"name": "a", "turns": []}]}, "prompts.0.turns"),
        ({"prompts": [{"name": "a", "turns": [""]}]}, "prompts.0.turns.0"),
        ({"prompts": [{"name": "a", "turns": [1]}]}, "prompts.0.turns.0"),
        ({"prompts": [{"name": "a", "turns": "Hello"}]}, "prompts.0.turns"),
        ({"prompts": [{"name": "a", "turns": ["x"], "sytem": "y"}]}, "did you mean 'system'"),
        ({"prompts": [{"turns": ["x"]}]}, "prompts.0.name"),
        ({"prompts": [{"name": "A b", "turns": ["x"]}]}, "prompts.0.name"),
        ({"prompts": [{"name": "a", "turns": ["x"]} for _ in range(2)]}, "prompt 'a' stands twice"),
        ({"prompts": [{"name": f"p{n}", "turns": ["x"]} for n in range(MOST_PROMPTS + 1)]}, "at most 10000"),
        ({"prompts": [{"name": "a", "turns": ["x"] * 1001}]}, "at most 1000"),
        ({"kind": "workload"}, "kind: prompts"),
        ({"schema": 2}, "newer melt"),
        ({"promts": []}, "did you mean 'prompts'"),
    ],
)
def test_a_mistake_is_told_with_its_place(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    write(tmp_path / "x.yaml", a_set(**changes))
    assert why in refused("x.yaml", tmp_path)


def test_what_no_text_holds_and_what_is_too_large_is_refused(tmp_path: Path) -> None:
    for text, why in (
        (json.dumps(a_set()).replace("Hello?", "\\u0000"), "no text can hold"),
        (json.dumps(a_set()).replace("Hello?", "\\ud800"), "no text can hold"),
        ("- a\n", "kind: prompts"),
        (json.dumps(a_set()).replace("Hello?", "x" * (1 << 20)), "larger than 1 MiB"),
    ):
        (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
        assert why in refused("x.yaml", tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused("x.yaml", tmp_path)


@given(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=50)
    | st.lists(st.sampled_from("\x85\u2028\ufeff\t\r\n :#-'\"ab1e.~\x01\xa0"), min_size=1, max_size=12).map("".join)
    | st.text("ab \n\t\"'\\", min_size=100, max_size=400)
)
@settings(max_examples=400, deadline=None)
def test_every_character_goes_through(words: str) -> None:
    mine = PromptSet(name="x", prompts=(Conversation(name="a", system=words, turns=(words, "b")),))
    with tempfile.TemporaryDirectory() as folder:
        digest = write_prompts(mine, Path(folder) / "x.yaml")
        assert read_prompts(Path(folder) / "x.yaml") == (mine, digest)


def test_a_hundred_thousand_words_are_one_prompt(tmp_path: Path) -> None:
    words = " ".join(["seven"] * 100_000)
    write(tmp_path / "x.yaml", a_set(prompts=[{"name": "long", "turns": [words]}]))
    assert load_prompts("x.yaml#long", tmp_path)[0][0].turns == (words,)


# ------------------------------------------------------------------------------------------------- what is shipped


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_shipped_says_what_it_is_and_whose_words_it_holds(path: Path) -> None:
    found, _ = read_prompts(path)
    assert found.name == path.stem
    assert found.about
    assert found.source
    assert not any(prompt.system for prompt in found.prompts), "some models' templates have no place for one"
    said = [turn for prompt in found.prompts for turn in prompt.turns]
    assert len(set(said)) == len(said)
    assert all(turn == turn.rstrip(" ") and turn.strip() for turn in said)


def words(reference: str) -> list[int]:
    (prompt,), _ = load_prompts(reference, Path("/nowhere"))
    return [len(turn.split()) for turn in prompt.turns]


def test_the_shipped_prompts_have_the_lengths_that_their_names_promise() -> None:
    assert max(words("everyday/short-question")) < 30
    assert 200 <= words("everyday/summarise")[0] <= 350
    assert 1000 <= words("everyday/long-context")[0] <= 1500
    assert len(words("everyday/code")) == 1
    assert len(words("everyday/multi-turn")) == 5
    assert len(words("sustained/evening")) == 48
    assert max(words("sustained/evening")) < 30
