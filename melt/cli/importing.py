"""`melt import`: results of other tools into melt's own store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table as RichTable
from rich.text import Text

from melt.cli.console import out, plain, print_json
from melt.cli.options import AsJson
from melt.errors import UsageError
from melt.importers import IMPORTERS, Gathered, Plan, gather, plan, publish
from melt.importers.reading import slug

EXAMPLE = "Example: **melt import ~/llama-bench-results --name laptop**"
_SHOWN = 12


def import_results(
    path: Annotated[Path, typer.Argument(help="A file of another tool, or a folder of them.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="SUITE", help="What to call them; by default as PATH is called.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="The device; by default what the files tell of it.")
    ] = None,
    tool: Annotated[
        str | None,
        typer.Option(
            "--tool", help=f"Whose results: {', '.join(one.tool for one in IMPORTERS)}; by default what fits."
        ),
    ] = None,
    results: Annotated[Path, typer.Option("--results", help="The folder for results.")] = Path("results"),
    again: Annotated[bool, typer.Option("--again", help="Import also what was imported before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be imported, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import results of other tools: recomputed from their raw data, each correction told, apart from melt's own."""
    found = gather(path, IMPORTERS, tool)
    suite = name or slug(path.resolve().stem if path.is_file() else path.resolve().name)
    planned = plan(found.runs, results, suite, device=device, again=again)
    if not planned.runs:
        raise UsageError(_nothing(path, found, planned))
    stored = [] if dry_run else publish(planned, results, found.problems)
    if as_json:
        print_json(_as_json(found, planned, [run.path for run in stored]))
        return
    _print(path, found, planned)
    if dry_run:
        out.print(f"nothing was written: this was a dry run, for {plain(results / suite)}", soft_wrap=True)
    else:
        where = results / suite
        runs = "1 run is" if len(stored) == 1 else f"{len(stored)} runs are"
        out.print(plain(f"{runs} in {where}: 'melt report {where}' shows them"), soft_wrap=True)


def _nothing(path: Path, found: Gathered, planned: Plan) -> str:
    """Why there is nothing to import, in one sentence: the first things that stood in the way."""
    reasons = [*planned.left_out, *found.problems]
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return f"nothing to import of {path}: {reasons[0]}{more}"
    if not found.unknown:
        return f"{path} holds no file: name one of another tool, or a folder of them"
    tools = ", ".join(one.tool for one in IMPORTERS)
    return (
        f"{path}: none of its {len(found.unknown)} files is of a tool that melt knows ({tools}): say which with --tool"
    )


def _print(path: Path, found: Gathered, planned: Plan) -> None:
    table = RichTable("tool", "device", "cell", "runs")
    counts = Counter((one.run.note.tool, one.device, one.cell) for one in planned.runs)
    for (tool, device, cell), count in counts.items():
        table.add_row(*(Text.from_markup(plain(word)) for word in (tool, device, cell)), str(count))
    out.print(table)
    notes = [(f"{_below(path, one.run.note.source)}, {one.cell}", one.run.note) for one in planned.runs]
    _list("put right", [f"{whose}: {text}" for whose, note in notes for text in note.corrections])
    _list(
        "stated, and not taken over",
        [f"{whose}: {k}: {why}" for whose, note in notes for k, why in note.refused.items()],
    )
    _list("could not be read", found.problems)
    _list("left out", planned.left_out)
    _list("not recognised", [str(file) for file in found.unknown])


def _below(path: Path, source: str) -> str:
    """A source as it is called below the path that was named."""
    inside = Path(source)
    return inside.relative_to(path).as_posix() if path in inside.parents else inside.name


def _list(head: str, sentences: Sequence[str]) -> None:
    if not sentences:
        return
    out.print(f"[bold]{head}[/] ({len(sentences)})")
    for sentence in sentences[:_SHOWN]:
        out.print(f"  {plain(sentence)}", soft_wrap=True)
    if len(sentences) > _SHOWN:
        out.print(f"  and {len(sentences) - _SHOWN} more: --json gives them all")


def _as_json(found: Gathered, planned: Plan, folders: Iterable[Path]) -> dict[str, Any]:
    return {
        "suite": planned.suite.name,
        "runs": [
            {
                "tool": one.run.note.tool,
                "source": one.run.note.source,
                "device": one.device,
                "cell": one.cell,
                "block": one.block,
                "started_utc": one.run.started_utc if one.began else None,
                "status": one.run.status,
                "corrections": list(one.run.note.corrections),
                "refused": dict(one.run.note.refused),
            }
            for one in planned.runs
        ],
        "folders": [str(folder) for folder in folders],
        "problems": list(found.problems),
        "left_out": list(planned.left_out),
        "not_recognised": [str(file) for file in found.unknown],
    }
