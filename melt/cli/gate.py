"""`melt gate`: whether last night's figures are those of the nights before."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melt.analysis.gate import HISTORY
from melt.cli.console import err, out, plain, print_json, say
from melt.cli.options import AsJson
from melt.errors import UsageError
from melt.nightly import judge
from melt.report.folder import refuse_a_runs_own
from melt.report.gate_files import gate_data, gate_md, write_files
from melt.report.gate_words import MOST, about_the_night, change_of, correlation, headline, missing_lines, steps_of
from melt.report.junit import junit_xml
from melt.report.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.nightly import Judged, NightResult

EXAMPLE = "Example: **melt gate results/nightly --junit gate.xml --md summary.md**"
FEW = 5
"""So many are listed of findings that tell little one by one: suspects as chance gives them, a device that drifted."""
_COLOURS = {"fail": "bold red", "nothing judged": "bold red", "pass": "bold green"}


def gate(
    results: Annotated[Path, typer.Argument(help="The suite's folder of results, such as results/nightly.")],
    history: Annotated[
        int, typer.Option("--history", min=HISTORY, max=365, help="How many nights make the baseline of the last one.")
    ] = HISTORY,
    axis: Annotated[
        str | None,
        typer.Option("--axis", help="The one key that may change from night to night, such as engine_version."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Judge this metric, and no others; 'all' for every one.", metavar="NAME"),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML there, for a CI system.")] = None,
    md: Annotated[Path | None, typer.Option("--md", help="Write a summary in Markdown there.")] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Write gate.json, gate.md and gate.xml into this folder.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 as well where the night is incomplete.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge the last night of a suite against the nights before it: exit 1 on a confirmed change.

    A change is confirmed when another night sees it too, or a session that is run again.
    """
    for path in (junit, md):
        if path is not None:
            refuse_a_runs_own(path.parent)
    if out_folder is not None:
        refuse_a_runs_own(out_folder)
    if not results.is_dir():
        raise UsageError(f"{results} is not a folder of results: name a suite's, such as results/nightly")
    result = judge(results, history=history, axis=axis, metrics=metric or (), now_s=time.time(), say=say)
    data = gate_data(result, strict=strict)
    files: dict[Path, bytes] = {}
    if out_folder is not None:
        files[out_folder / "gate.json"] = (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()
    for asked, name in ((md, "gate.md"), (junit, "gate.xml")):
        text = gate_md(result).encode() if name == "gate.md" else junit_xml(result, strict=strict)
        files |= {path: text for path in (asked, out_folder / name if out_folder else None) if path is not None}
    written = write_files(files)
    if as_json:
        print_json(data)
    else:
        _tell(result)
        for path in written:
            out.print(plain(path), soft_wrap=True)
    if result.overall == "nothing judged":
        err.print(f"[bold red]melt:[/] {plain(headline(result))}: {plain(_first_reason(result))}", soft_wrap=True)
    if result.exit_code(strict=strict):
        raise typer.Exit(result.exit_code(strict=strict))


def _tell(result: NightResult) -> None:
    """What a person wants to know in the morning, the verdict first."""
    colour = _COLOURS.get(result.overall, "bold yellow")
    out.print(f"[{colour}]{plain(headline(result))}[/]", soft_wrap=True)
    axis = f", {result.axis} may change" if result.axis else ""
    _line(f"suite {result.suite}, night {result.night}, {counted(result.nights, 'night')}{axis}")
    _findings("confirmed", result.of("confirmed"))
    notable = sum(one.notable for one in result.judged)
    _findings("suspect", result.of("suspect"), most=min(max(FEW, notable), MOST))
    if result.confirm:
        _line("  to confirm it tonight run again, after a reboot if you can (without one the confirmation is weaker):")
        _line(f"  {result.confirm}")
    _lines("missing", missing_lines(result.missing))
    _lines("quarantined: the device drifted", [f"{one.device}: {one.why}" for one in result.quarantined])
    _findings("quarantined", result.of("quarantined"), most=FEW)
    _findings("provisional, fewer than 14 nights", result.of("provisional"))
    _lines("warnings", [*about_the_night(result), *result.warnings])
    told = correlation(result.judged)
    if told:
        _line(told)


def _findings(title: str, found: Sequence[Judged], most: int = MOST) -> None:
    lines = []
    for one in found:
        steps = steps_of(one)
        lines.append(
            f"{one.direction}: {one.series.device} {one.series.cell} {change_of(one)}{f'; {steps}' * bool(steps)}"
        )
    _lines(title, lines, most)


def _lines(title: str, lines: Sequence[str], most: int = MOST) -> None:
    if lines:
        out.print(f"[bold]{plain(title)}[/] ({len(lines)})", soft_wrap=True)
    for line in lines[:most]:
        _line(f"  {line}")
    if len(lines) > most:
        _line(f"  and {len(lines) - most} more: --out FOLDER writes all")


def _line(text: str) -> None:
    out.print(plain(text), soft_wrap=True)


def _first_reason(result: NightResult) -> str:
    return f"{result.missing[0].name}: {result.missing[0].why}" if result.missing else "no run of it counts"
