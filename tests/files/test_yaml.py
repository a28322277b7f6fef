"""YAML as melt reads it: words stay words, and whatever is wrong is one sentence."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import pytest

from melt.errors import UsageError
from melt.files import parse_assignment
from melt.files.reader import parse_yaml, read_yaml

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("nullify", "nullify"),
        ("010", 10),
        ("-7", -7),
        ("+7", 7),
        ("0x10", "0x10"),
        ("0o10", "0o10"),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("190:20:30.5", "190:20:30.5"),
        ("2026-01-31", "2026-01-31"),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        (".5", 0.5),
        ("1.", 1.0),
        ("1.2.3", "1.2.3"),
        ("0-3,5", "0-3,5"),
        ("-.inf", -math.inf),
        ('"1"', "1"),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_a_plain_word_is_a_number_or_itself(text: str, value: Any) -> None:
    read = parse_yaml(f"key: {text}")["key"]
    assert (read, type(read)) == (value, type(value))


def test_what_is_not_a_number_is_read_as_such() -> None:
    assert math.isnan(parse_yaml("key: .nan")["key"])


BROKEN = {
    "a key twice": ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' stands twice"),
    "a nested key twice": ("p:\n  a: 1\n  a: 3\n", "line 3: key 'a' stands twice"),
    "a key of a million letters twice": (f"? {'k' * 100_000}\n: 1\n? {'k' * 100_000}\n: 2", "k…"),
    "an alias": ("a: &x [1]\nb: *x\n", "line 2: aliases"),
    "an alias bomb": (
        "a: &a [1,1]\n" + "".join(f"{c}: &{c} [*{p},*{p}]\n" for p, c in zip("abcd", "bcde", strict=True)),
        "aliases",
    ),
    "an alias of itself": ("a: &a [*a]\n", "aliases"),
    "a merge": ("base: &b {x: 1}\nmine: {<<: *b}\n", "aliases"),
    "a Python object": ("a: !!python/object/apply:os.system [id]\n", "tags"),
    "a tag of its own": ("a: !secret x\n", "tags"),
    "a bool that is none": ("a: !!bool maybe\n", "tags"),
    "a map that is none": ("!!map [a, b]\n", "tags"),
    "an empty number": ("a: !!int ''\n", "tags"),
    "a list as a key": ("? [1, 2]\n: x\n", "line 1: a key must be a word"),
    "a map as a key": ("? {a: 1}\n: x\n", "line 1: a key must be a word"),
    "a lone surrogate": ('a: "\\ud800"\n', "no text can hold"),
    "a NUL": ('a: "x\\0y"\n', "no text can hold"),
    "a character that is none": ('a: "\\U00110000"\n', "not readable as YAML"),
    "a control character": ("a: \x07\n", "not readable as YAML"),
    "a number of 5000 digits": (f"a: {'9' * 5000}\n", "not readable as YAML"),
    "lists in lists": ("a: " + "[" * 100_000, "nested more than 16 deep"),
    "maps in maps": ("".join(f"{' ' * i}a:\n" for i in range(40)), "nested more than 16 deep"),
    "a tab": ("a:\n\tb: 1\n", "line 2"),
    "an open bracket": ("a: [1, 2\n", "line 2"),
    "an open quote": ('a: "x\n', "line 2"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2"),
    "a newer YAML": ("%YAML 9.9\n---\na: 1\n", "line 1"),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_text_is_one_short_sentence_that_names_the_file(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_yaml(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert says in sentence
    assert sentence.isprintable()
    assert len(sentence) < len(str(path)) + 200


def test_the_command_line_reads_values_as_files_do() -> None:
    assert parse_assignment("params.spin=no") == ("params.spin", "no")
    assert parse_assignment("protocol.min_s=1e1") == ("protocol.min_s", 10.0)
    assert parse_assignment("params.provider_options={a: b=c}") == ("params.provider_options", {"a": "b=c"})
    assert parse_assignment("limits.zone_max_c=") == ("limits.zone_max_c", None)


@pytest.mark.parametrize(
    "text", ["", "=", "=1", "params.threads", "a=!!bool x", "a=" + "[" * 5000, "a=*x", 'a="\\ud800"', "a=" + "1" * 5000]
)
def test_a_setting_that_cannot_be_read_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_assignment(text)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: two\r\n")
    assert read_yaml(path) == {"a": 1, "b": "two"}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_is_told(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes("name: höher".encode(encoding))
    with pytest.raises(UsageError, match="UTF-8"):
        read_yaml(path)


def test_a_file_of_exactly_one_mebibyte_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: 1\n".ljust(1 << 20, "#").replace("\n#", "\n# "[:2], 1), encoding="utf-8")
    assert read_yaml(path) == {"a": 1}
    path.write_bytes(path.read_bytes() + b"#")
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        read_yaml(path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "word", "3", "null"])
def test_a_file_without_keys_is_told_how_it_begins(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="schema: 1"):
        read_yaml(path)


def test_what_is_no_file_is_told_and_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    odd = {
        tmp_path: "is a folder",
        pipe: "is not a file",
        tmp_path / "missing.yaml": "does not exist",
        tmp_path / "file" / "below.yaml": "does not exist",
        loop: "cannot be read",
        tmp_path / ("x" * 300): "cannot be read",
        tmp_path / "nul\0.yaml": "is not a path",
    }
    for path, says in odd.items():
        with pytest.raises(UsageError, match=says):
            read_yaml(path)
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(UsageError, match="is not a file"):
            read_yaml(type(tmp_path)(device))
