"""The roofline: no model, but what the device itself can do at most, measured by a small program of melt's own."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError

from melt.engines.base import Command, OutputCheck, Prepared, Request, decimal
from melt.errors import UsageError, nearest
from melt.native import build
from melt.records import Strict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from melt.records import Metric

_LEAST_REPETITIONS = 11
"""What a median needs: a point of fewer would have none."""


class RooflineParams(Strict):
    """`params` of a workload for this engine; what is not said the program settles on the device, and tells."""

    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    """The most threads that are measured; all processors that the run may use where it is not said."""
    read_bytes: Annotated[int, Field(strict=True, ge=256 << 10, le=1 << 46)] | None = None
    """Of memory that is read; a quarter of what is available at most."""


class Roofline:
    """Measures what a device reads, multiplies and adds at most."""

    name = "roofline"

    def prepare(self, request: Request) -> Prepared:
        params = _params(request)
        if request.model is not None:
            raise UsageError(f"workload '{request.name}': engine roofline runs no model: leave 'model' out")
        used = params.model_dump()
        files = {} if request.library else {"program": build("roofline", request.machine, say=request.say)}
        return Prepared(
            request=request,
            files=files,
            params=used,
            synthetic=False,
            identity={**used, "program": "own" if request.library else "melt's"},
            caveats=_caveats(request, params),
        )

    def command(self, prepared: Prepared, place: Callable[[str], str], job_dir: str) -> Command:
        params, stop = prepared.params, prepared.request.stop
        argv = [prepared.request.library or place("program"), "--events", f"{job_dir}/events.jsonl"]
        argv += ["--threads", str(params["threads"])] if params["threads"] else []
        argv += ["--bytes", str(params["read_bytes"])] if params["read_bytes"] else []
        argv += ["--warmup-n", str(stop.warmup_n), "--warmup-s", decimal(stop.warmup_s)]
        argv += ["--min-n", str(max(stop.min_n, _LEAST_REPETITIONS)), "--min-s", decimal(stop.min_s)]
        return Command(tuple(argv))

    def trial(self, prepared: Prepared, place: Callable[[str], str]) -> Command:
        return Command((prepared.request.library or place("program"), "--try"))

    def adopt(self, prepared: Prepared, folder: Path) -> Mapping[str, Metric]:
        del prepared, folder
        return {}

    def check(self, prepared: Prepared, output: Path) -> OutputCheck:
        del prepared, output
        return OutputCheck(None, None, None, "a roofline has no outputs; its sums tell it that all was done")


def _caveats(request: Request, params: RooflineParams) -> tuple[str, ...]:
    if request.cpus is None or params.threads is None or params.threads <= request.cpus:
        return ()
    caveat = f"threads: {params.threads} threads share {request.cpus} processors"
    request.say(f"workload '{request.name}': {caveat}")
    return (caveat,)


def _params(request: Request) -> RooflineParams:
    try:
        return RooflineParams.model_validate(dict(request.params))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            hint = nearest(key, RooflineParams.model_fields)
            raise UsageError(f"workload '{request.name}': engine roofline has no parameter '{key}': {hint}") from None
        raise UsageError(
            f"workload '{request.name}': params.{key}: {problem['msg']} (it is {reprlib.repr(problem['input'])})"
        ) from None
