"""The commands by name, and what becomes of an error: one sentence on stderr and an exit code."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

import melt
from melt.cli import (
    analyse,
    build,
    calibrate,
    compare,
    devices,
    doctor,
    export,
    gate,
    history,
    importing,
    index,
    model,
    prompts,
    report,
    run,
    show,
    watch,
)
from melt.cli.console import err, out, plain, survive_any_encoding
from melt.errors import Interrupted, MeltError, ParseError

if TYPE_CHECKING:
    from types import FrameType

SESSION = re.compile(r"\d{8}T\d{6}Z(-\d+)?")
"""What a session's name looks like."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="How fast, how frugal and how hot is this model on that device?",
    epilog="Example: **melt run workloads/demo.yaml**, then **melt report results/demo**",
)
app.command("run", epilog=run.EXAMPLE)(run.run)
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)
app.command("calibrate", epilog=calibrate.EXAMPLE)(calibrate.calibrate)
app.command("watch", epilog=watch.EXAMPLE)(watch.watch)
app.command("show", epilog=show.EXAMPLE)(show.show)
app.command("report", epilog=report.EXAMPLE)(report.report)
app.command("compare", epilog=compare.EXAMPLE)(compare.compare)
app.command("gate", epilog=gate.EXAMPLE)(gate.gate)
app.command("history", epilog=history.EXAMPLE)(history.history)
app.command("analyse", epilog=analyse.EXAMPLE)(analyse.analyse)
app.command("import", epilog=importing.EXAMPLE)(importing.import_results)
app.command("export", epilog=export.EXAMPLE)(export.export_results)
app.command("index", epilog=index.EXAMPLE)(index.index)
app.add_typer(build.app, name="build")
app.add_typer(devices.app, name="devices")
app.add_typer(model.app, name="model")
app.add_typer(prompts.app, name="prompts")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"melt {melt.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """How fast, how frugal and how hot is this model on that device?"""
    del version


def main() -> int:
    """Runs the command line; the exit code. No traceback reaches a person."""
    survive_any_encoding()
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        code = app(args=with_optional_session(sys.argv[1:]), standalone_mode=False)
    except MeltError as error:
        err.print(f"[bold red]melt:[/] {plain(error)}", soft_wrap=True)
        if isinstance(error, ParseError) and error.raw:
            err.print(f"the text that could not be read: {plain(repr(error.raw[:200]))}", soft_wrap=True)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        err.print("melt: interrupted", soft_wrap=True)
        code = Interrupted.exit_code
    except typer.Exit as done:
        code = done.exit_code
    except BrokenPipeError:
        out.on_broken_pipe()  # whoever read our output has had enough
        code = 0
    except Exception as error:  # noqa: BLE001 - the last resort: a bug of ours, told as one
        code = _told(error)
    return code if isinstance(code, int) else 0


def with_optional_session(argv: list[str]) -> list[str]:
    """`--resume` alone means the last unfinished session: says so where no session follows it."""
    words: list[str] = []
    for word, following in itertools.pairwise([*argv, ""]):
        bare = word == "--resume" and not SESSION.fullmatch(following) and following != run.LAST
        words += ["--resume", run.LAST] if bare else [word]
    return words


def _told(error: Exception) -> int:
    """Tells an error that is not melt's own: click's are usage errors, anything else is our bug."""
    message = getattr(error, "format_message", None)
    if callable(message):
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context is not None else ""
        err.print(f"[bold red]melt:[/] {plain(message())}{hint}", soft_wrap=True)
        return 2
    if os.environ.get("MELT_TRACEBACK"):
        raise error
    err.print(
        f"[bold red]melt:[/] this is a bug in melt: {type(error).__name__}: {plain(str(error))}; run again with "
        "MELT_TRACEBACK=1 and send what it prints",
        soft_wrap=True,
    )
    return 1


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
