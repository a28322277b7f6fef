"""`melt prompts`: which sets of prompts there are, how long their prompts are, and one by the study's recipe."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table as RichTable

from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson
from melt.engines.vocabulary import open_vocabulary
from melt.errors import MeltError, UsageError
from melt.files.oasst1 import Recipe, build_set
from melt.files.prompts import (
    Conversation,
    Lengths,
    lengths,
    load_prompts,
    prompt_folders,
    read_prompts,
    words,
    write_prompts,
)
from melt.places import write_whole
from melt.records import NAME
from melt.report.pictures import HOW_TO_GET

SET = "SET, SET/NAME, FILE.yaml or FILE.yaml#NAME; a set stands in ./prompts or is one that melt ships."
_DEFAULT = Recipe()
_KINDS = ("png", "svg", "pdf")

app = typer.Typer(no_args_is_help=True, help="Look at sets of prompts, and build one by the study's recipe.")


@app.command("list", epilog="Example: **melt prompts list**")
def list_sets(as_json: AsJson = False) -> None:
    """List the sets of prompts in ./prompts and those that melt ships."""
    rows = [_row(path) for path in _sets(Path())]
    if as_json:
        print_json(rows)
        return
    table = RichTable()
    for column in ("set", "conversations", "prompts", "about"):
        table.add_column(column, justify="right" if column in ("conversations", "prompts") else "left")
    for row in rows:
        about = row["about"] if row["problem"] is None else f"cannot be read: {row['problem']}"
        table.add_row(
            *(plain("–" if cell is None else cell) for cell in (row["set"], row["conversations"], row["prompts"])),
            plain(about),
        )
    out.print(table)


@app.command(epilog="Example: **melt prompts info everyday**")
def info(
    wanted: Annotated[str, typer.Argument(help=SET, metavar="SET")],
    model: Annotated[
        Path | None, typer.Option("--model", help="A GGUF file: count in its tokens too.", metavar="FILE.gguf")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell how many prompts a set has, and how long they are."""
    conversations, digest = load_prompts(wanted, Path())
    turns = _turns(conversations)
    counts = {"words": [words(turn) for turn in turns], "characters": [len(turn) for turn in turns]}
    if model is not None:
        with open_vocabulary(model, say) as vocabulary:
            counts["tokens"] = [
                len(vocabulary.tokens(turn, special_start=False, parse_special=False)) for turn in turns
            ]
    told = {what: lengths(each) for what, each in counts.items()}
    if as_json:
        print_json(
            {
                "set": wanted,
                "sha256": digest,
                "conversations": len(conversations),
                "prompts": len(turns),
                **{what: dataclasses.asdict(one) for what, one in told.items()},
            }
        )
        return
    out.print(f"{plain(wanted)}: {_how_many(conversations)}, sha256 {digest}", soft_wrap=True)
    _print_lengths(told)


@app.command(epilog="Example: **melt prompts cdf everyday sustained --out lengths.png**")
def cdf(
    wanted: Annotated[list[str], typer.Argument(help=f"Sets to compare, each {SET}", metavar="SET…")],
    file: Annotated[Path, typer.Option("--out", help="The picture to write: PNG, SVG or PDF.", metavar="FILE")],
    as_json: AsJson = False,
) -> None:
    """Draw the lengths of prompts in words: which share of a set has at most so many."""
    kind = file.suffix.removeprefix(".").lower()
    if kind not in _KINDS:
        raise UsageError(f"--out {file}: a picture ends in .png, .svg or .pdf")
    sets = {one: [words(turn) for turn in _turns(load_prompts(one, Path())[0])] for one in dict.fromkeys(wanted)}
    try:
        # here and not above: an optional extra, and the half second of its import is for pictures alone
        from melt.report.lengths_picture import lengths_picture  # noqa: PLC0415
    except ImportError:
        raise UsageError(HOW_TO_GET) from None
    _write(file, lengths_picture(sets, kind))
    if as_json:
        print_json({"file": str(file), "sets": {one: {"words": sorted(counts)} for one, counts in sets.items()}})
        return
    out.print(plain(file), soft_wrap=True)


@app.command(epilog="Example: **melt prompts oasst1 oasst_ready.trees.jsonl.gz --out oasst1.yaml**")
def oasst1(
    dump: Annotated[
        Path, typer.Argument(help="A dump of OASST1 as published: .trees.jsonl[.gz] or .messages.jsonl[.gz].")
    ],
    file: Annotated[Path, typer.Option("--out", help="The set to write; its name is the set's.", metavar="FILE.yaml")],
    conversations: Annotated[
        int, typer.Option("--conversations", help="How many conversations to draw.", min=1, max=10_000)
    ] = _DEFAULT.conversations,
    turns_min: Annotated[
        int, typer.Option("--turns-min", help="A person's messages in a conversation, at least.", min=1, max=100)
    ] = _DEFAULT.turns_min,
    turns_max: Annotated[
        int, typer.Option("--turns-max", help="And at most: the rest of a longer one is left out.", min=1, max=100)
    ] = _DEFAULT.turns_max,
    lang: Annotated[str, typer.Option("--lang", help="Their language, as OASST1 names it.")] = _DEFAULT.lang,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws others.")] = _DEFAULT.seed,
    as_json: AsJson = False,
) -> None:
    """Build a set by the study's recipe: a person's messages along one path of a tree, from a dump on this computer."""
    if file.suffix != ".yaml" or not re.fullmatch(NAME, file.stem):
        raise UsageError(f"--out {file}: write NAME.yaml, the name of a-z 0-9 . _ -")
    built = build_set(dump, file.stem, Recipe(conversations, turns_min, turns_max, lang, seed))
    digest = write_prompts(built.prompts, file)
    turns = _turns(built.prompts.prompts)
    told = lengths([words(turn) for turn in turns])
    if as_json:
        print_json(
            {
                "file": str(file),
                "sha256": digest,
                "conversations": len(built.prompts.prompts),
                "prompts": len(turns),
                "words": dataclasses.asdict(told),
                "trees": built.trees,
                "fitting_trees": built.fitting,
                "passed_lines": built.passed_lines,
            }
        )
        return
    out.print(f"{plain(file)}: {_how_many(built.prompts.prompts)}, sha256 {digest}", soft_wrap=True)
    _print_lengths({"words": told})
    out.print(f"  drawn from {built.fitting:,} of {built.trees:,} trees", soft_wrap=True)
    if built.passed_lines:
        say(f"{built.passed_lines:,} lines of {dump} could not be understood and were passed over")


def _sets(here: Path) -> list[Path]:
    """Every set that has a name here; one in ./prompts hides a shipped one."""
    found: dict[str, Path] = {}
    for folder in prompt_folders(here):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return [found[name] for name in sorted(found)]


def _row(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"set": path.stem, "file": str(path), "conversations": None, "prompts": None, "about": None}
    try:
        found, digest = read_prompts(path)
    except MeltError as error:
        return {**row, "problem": str(error)}
    told = {"conversations": len(found.prompts), "prompts": len(_turns(found.prompts)), "about": found.about}
    return {**row, **told, "source": found.source, "sha256": digest, "problem": None}


def _turns(conversations: Sequence[Conversation]) -> list[str]:
    """Each thing that a person says is a prompt; what a system is told is none."""
    return [turn for conversation in conversations for turn in conversation.turns]


def _how_many(conversations: Sequence[Conversation]) -> str:
    prompts = len(_turns(conversations))
    return f"{len(conversations):,} conversation{'s'[: len(conversations) != 1]} of {prompts:,} prompts in all"


def _print_lengths(told: dict[str, Lengths]) -> None:
    for what, one in told.items():
        out.print(f"  {what} of a prompt: mean {one.mean:,.1f}, median {one.median:,.1f}, longest {one.max:,}")


def _write(file: Path, data: bytes) -> None:
    try:
        write_whole(file, data)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}: name another file") from None
