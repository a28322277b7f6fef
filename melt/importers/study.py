"""The result folders that the 2024 study of language models on phones and Jetsons published (arXiv 2403.12844).

A folder holds one app with one model on one device; each iteration of its conversations is a run. Rates, phases and
energy are computed by melt's own analysis from the stamps and traces in it, and what the study's programs get wrong is
put right: `study_corrections` lists it.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from melt.importers.base import Imported, ImportedRun, fingerprint
from melt.importers.reading import shorten_to, slug, word
from melt.importers.study_corrections import corrections
from melt.importers.study_files import number
from melt.importers.study_layout import LENGTH_MEANS, about, is_set, iterations
from melt.importers.study_run import read_iteration
from melt.records import ImportNote, Resolved

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from melt.importers.study_layout import About, Iteration
    from melt.importers.study_run import Read

TOOL = "melt-study-2024"
MAX_COPIED_BYTES = 64 << 20
"""A larger file is not copied into the run's folder: the trace holds what was read of it."""
_TEMPERATURE = 0.9
_LONGEST = 200
"""Letters of a model's name that are kept."""
_SETTINGS: Mapping[str, str] = {
    "max_gen_len": "params.max_gen_len",
    "max_context_size": "params.context",
    "n_threads": "params.threads",
    "temperature": "params.temperature",
    "input_token_batching": "params.batch",
}
_CONFIGURATION = "configuration.json"


class StudyImporter:
    """Reads a set of the study's results: a folder with `measurements_iter*` and what lies beside them."""

    @property
    def tool(self) -> str:
        return TOOL

    def recognises(self, path: Path) -> bool:
        return is_set(path)

    def read(self, path: Path) -> Imported:
        """Every iteration as a run; what cannot be read is a problem that names the file and why."""
        told = about(path)
        runs: list[ImportedRun] = []
        problems: list[str] = []
        for iteration in iterations(path):
            if iteration.summary is None and not iteration.conversations:
                name = iteration.log.name if iteration.log else f"iteration {iteration.number}"
                problems.append(
                    f"{name}: there are no measurements of iteration {iteration.number} beside it: left out"
                )
                continue
            read = read_iteration(path, iteration)
            if isinstance(read, str):
                problems.append(read)
                continue
            problems += read.problems
            runs.append(_run(path, iteration, told, read))
        return Imported(TOOL, tuple(runs), tuple(problems))


def _run(folder: Path, iteration: Iteration, told: About, read: Read) -> ImportedRun:
    model = told.model or (shorten_to(read.model, _LONGEST) if read.model else None)
    app = told.app or "unknown app"
    rule = read.power.rule
    settings = {key: value for key in _SETTINGS if (value := _plain(told.settings.get(key))) is not None}
    hard = {
        "workload": slug(model) if model else "conversations",
        "engine": told.engine,
        "app": told.app,
        "model": model,
        "quant": told.quant,
        "synthetic_model": False,
        "simulated": False,
        "power_mode": told.power_mode,
        "threads": settings.get("n_threads"),
        "context": settings.get("max_context_size"),
        "max_length": settings.get("max_gen_len"),
        "max_length_means": LENGTH_MEANS.get(told.app or ""),
        "temperature": settings.get("temperature"),
        "conversations": [talk.number for talk in read.talks],
        "energy_total": f"{rule.boundary}: {' + '.join(rule.sum)}" if rule else _metered(read),
    }
    raw, left = _raw(folder, iteration)
    return ImportedRun(
        device=slug(told.device) if told.device else None,
        workload=slug(model) if model else "conversations",
        note=ImportNote(
            tool=TOOL, source=str(folder), corrections=corrections(folder, iteration.number, told, read), refused=left
        ),
        fingerprint=fingerprint(TOOL, hard, {"app": app}),
        metrics=read.replaced,
        series=read.series,
        block=iteration.number,
        started_utc=dt.datetime.fromtimestamp(read.begin_ns // 10**9, dt.UTC).isoformat(),
        resolved={_SETTINGS[key]: Resolved(value=value, source=_CONFIGURATION) for key, value in settings.items()},
        caveats=_caveats(told, read),
        engine={"name": told.engine, "app": told.app, "loads_s": [t.load.seconds for t in read.talks if t.load]},
        energy=read.series.asked.energy if read.series else None,
        raw=raw,
    )


def _metered(read: Read) -> str | None:
    return "battery: meter.monsoon" if "monsoon" in read.power.logged.rails and not read.power.why_none else None


def _caveats(told: About, read: Read) -> tuple[str, ...]:
    temperature = _plain(told.settings.get("temperature"))
    temperature = _TEMPERATURE if temperature is None else temperature
    found = [
        f"output_length: sampled at temperature {temperature} without a seed, so that the answers' lengths differ",
        "pauses: the 5 s between prompts lie in the measured window, so energy_j and the mean power hold them",
        "wall_clock: the stamps are of a wall clock, which may have been set meanwhile",
    ]
    means = LENGTH_MEANS.get(told.app or "")
    if means is not None:
        found.append(f"max_length: the largest length of an answer counts {means} in this app")
    lost = [turn for talk in read.talks for turn in talk.turns if turn.why and turn.told is None]
    found += [f"prompt {turn.conversation}/{turn.index}: {turn.why}" for turn in lost[:20]]
    if len(lost) > 20:  # noqa: PLR2004
        found.append(f"{len(lost) - 20} prompts more have no report of their engine")
    found += [problem for problem in read.problems if "the clock went back" in problem]
    return tuple(found)


def _raw(folder: Path, iteration: Iteration) -> tuple[dict[str, Path], dict[str, str]]:
    """The files of an iteration by name, and those too large to copy, with the reason."""
    beside = [
        folder / name for name in (_CONFIGURATION, "measurements_monsoon.csv", ".t_monsoon", "measurements_ts.csv")
    ]
    shared = [file for file in beside if file.is_file() and not file.is_symlink()]
    kept: dict[str, Path] = {}
    left: dict[str, str] = {}
    for file in (*iteration.files, *shared):
        if file.stat().st_size > MAX_COPIED_BYTES:
            left[file.name] = f"not copied: {file.stat().st_size} bytes; the trace holds what was read of it"
        else:
            kept[file.name.lstrip(".")] = file
    return kept, left


def _plain(value: Any) -> int | float | str | None:
    """A setting as it may stand in a fingerprint; None for what is none, as true or NaN."""
    if isinstance(value, bool):
        return None
    return number(value) if isinstance(value, float) else word(value)
