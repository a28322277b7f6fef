"""What the documents show is so: links lead somewhere, commands parse, files load, tables say what the code says."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from melt.cli.app import app, with_optional_session
from melt.files import PRESETS, load_lab, load_profile, load_prompts, load_suite, load_workload
from melt.files.reader import parse_yaml
from melt.lab import make_plan
from melt.places import shipped
from melt.records import METRIC_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("results/README.md")],
    key=lambda page: str(page.relative_to(ROOT)),
)
COMMAND = typer.main.get_command(app)

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def blocks(page: Path, language: str | None = None) -> list[str]:
    """The fenced blocks of a page, all or those of a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for tongue, text in found if language is None or tongue == language]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def subcommands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    inner = getattr(command, "commands", None)
    if inner is None or command.invoke_without_command:
        yield words, command
    for name, sub in (inner or {}).items():
        yield from subcommands(sub, (*words, name))


COMMANDS = dict(subcommands(COMMAND))
every_command = pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words) for words in COMMANDS])


def parse(line: str) -> None:
    """Parses a command line as melt would, without carrying it out; fails with click's own sentence."""
    program, *words = shlex.split(line, comments=True)
    assert program.rpartition("/")[2] == "melt"
    words = with_optional_session(words)
    command: Any = COMMAND
    while (inner := getattr(command, "commands", None)) is not None:
        if (words and words[0].startswith("--")) or (not words and command.invoke_without_command):
            break  # an option of melt itself, or a command that does something without the others below it
        assert words, f"{line}: a sub-command is missing"
        assert words[0] in inner, f"{line}: there is no command '{words[0]}'"
        command, words = inner[words[0]], words[1:]
    try:
        command.make_context("melt", list(words))
    except typer.Exit:
        pass
    except Exception as error:  # noqa: BLE001 - whatever click says is what a reader would be told
        told = getattr(error, "format_message", None)
        pytest.fail(f"{line}: {told() if told else repr(error)}")


def shown(page: Path) -> list[str]:
    """The melt commands in the fenced blocks of a page."""
    lines = [line.strip().removeprefix("$ ") for text in blocks(page) for line in text.splitlines()]
    return [line for line in lines if re.match(r"(\S*/)?melt( |$)", line)]


# ------------------------------------------------------------------------------------------------------------ links


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@every_page
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        assert path.is_relative_to(ROOT), f"{page.name}: {target} is not in the repository"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}"


@every_page
def test_every_file_of_the_repository_that_is_named_is_there(page: Path) -> None:
    for word in re.findall(
        r"`((?:melt|docs|tests|workloads|device_profiles|benchmarks|scripts)/[\w./-]*)`", prose(page)
    ):
        assert (ROOT / word).exists(), f"{page.name}: {word}"


@every_page
def test_a_page_is_no_longer_than_a_page_should_be_and_has_one_title(page: Path) -> None:
    assert len(re.findall(r"^# ", prose(page), re.MULTILINE)) == 1
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 200
    assert page.read_text(encoding="utf-8").count("```") % 2 == 0


# --------------------------------------------------------------------------------------------------------- commands


@every_page
def test_every_command_that_is_shown_parses(page: Path) -> None:
    for line in shown(page):
        parse(line)
        for word in shlex.split(line, comments=True):
            if word.startswith("workloads/"):
                assert (ROOT / word).is_file(), line


@every_page
def test_every_command_that_is_mentioned_exists(page: Path) -> None:
    for mention in re.findall(r"`melt ([a-z]+)[^`]*`", prose(page)):
        assert mention in {words[0] for words in COMMANDS}, f"{page.name}: melt {mention}"


@every_page
def test_every_make_target_that_is_shown_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE):
        assert target in targets, f"{page.name}: make {target}"


def test_the_readme_shows_every_command() -> None:
    lines = shown(ROOT / "README.md")
    for words in COMMANDS:
        assert any(f"melt {' '.join(words)}" in line for line in lines), words


@every_command
def test_every_command_has_help_that_works_and_an_example_that_parses(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    examples = re.findall(r"\*\*(melt .*?)\*\*", command.epilog or "")
    assert (command.epilog or "").startswith("Example: **melt ")
    for line in examples:
        parse(line)
        assert line.startswith(f"melt {' '.join(words)}")
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0
    assert "Example: melt" in done.output
    for parameter in command.params:
        for option in parameter.opts:
            assert not option.startswith("--") or option in done.output
        assert getattr(parameter, "help", None) or parameter.name == "help", parameter.name


@every_command
def test_every_command_that_prints_data_can_print_json(words: tuple[str, ...]) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[words].params)


def test_a_command_that_is_wrong_would_be_seen() -> None:
    for line in (
        "melt",
        "melt rnu x.yaml",
        "melt run",
        "melt run a.yaml --rusn 3",
        "melt model make",
        "melt build --for",
    ):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            parse(line)
    parse("melt run workloads/demo.yaml --resume  # a comment")
    parse(".venv/bin/melt --version")


# ------------------------------------------------------------------------------------------------------------ files


@every_page
def test_every_file_that_is_shown_loads_and_its_suite_makes_a_plan(page: Path, tmp_path: Path) -> None:
    files: dict[str, list[Path]] = {}
    profiles = tmp_path / "device_profiles"
    profiles.mkdir()
    for number, text in enumerate(blocks(page, "yaml")):
        data = parse_yaml(text)
        kind = data["kind"]
        folder = profiles if kind == "profile" else tmp_path
        path = folder / f"{data.get('name', f'{kind}{number}')}.yaml"
        path.write_text(text, encoding="utf-8")
        files.setdefault(kind, []).append(path)
    for path in files.get("profile", []):
        assert load_profile(path.stem, [profiles, shipped("device_profiles")]).name == path.stem
    for path in files.get("workload", []):
        assert load_workload(str(path), tmp_path)[0].name == path.stem
    for path in files.get("prompts", []):
        assert load_prompts(str(path), tmp_path)[0]
    labs = [load_lab(path) for path in files.get("lab", [None])]
    for path, lab in itertools.product(files.get("suite", []), labs[:1]):
        assert make_plan(*load_suite(str(path)), lab, (), {}).order


def test_the_presets_table_says_what_the_code_does() -> None:
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+) \| ([\d.]+) s and (\d+)[^|]*\| ([\d.]+) s and (\d+) \|", text, re.MULTILINE
    )
    keys = ("runs", "min_s", "min_n", "warmup_s", "warmup_n")
    assert {name: dict(zip(keys, map(float, values), strict=True)) for name, *values in rows} == {
        name: {key: values[f"protocol.{key}"] for key in keys} for name, values in PRESETS.items()
    }


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for requirement in wanted:
        name = re.split(r"[^\w-]", requirement)[0]
        stubs = name.endswith("-stubs") or name.startswith("types-")
        assert name == "melt" or ("stubs" if stubs else name) in text, name


def test_the_changelog_tells_of_changes_to_measurements_up_to_the_version_of_today() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    _, found, rest = text.partition("\n## Changes to measurements\n")
    assert found
    for version in range(1, METRIC_VERSION + 1):
        assert f"Metric version {version}:" in rest


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("the paths in tracked files are NOT tested: this is not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_file_of_the_repository_holds_a_path_of_somebodys_machine() -> None:
    somebody = re.compile(
        rb"(?<![\w.])/(?:home|Users)/(?!pi/|you/|USER/)\w+/|(?<![\w.])/(?:root|work|mnt)/\w|[A-Z]:\\\\?Users"
    )
    files = tracked()
    assert len(files) > 50
    for path in files:
        if path == Path(__file__) or path.suffix in (".png", ".pdf"):
            continue
        found = somebody.search(path.read_bytes())
        assert found is None, f"{path.relative_to(ROOT)}: {found[0]!r}"
