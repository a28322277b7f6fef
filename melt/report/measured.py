"""How the runs were measured, and what a reader must be warned of, as plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from melt.analysis.ceiling import FP32, INT8, ONE_THREAD, SHARE
from melt.analysis.summary import CONFIDENCE, MIN_RUNS
from melt.report.across import across
from melt.report.alike import template, together
from melt.report.figures import above_ceiling
from melt.report.numbers import counted, seconds, significant
from melt.report.table import row_notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from melt.analysis.ceiling import Ceiling
    from melt.records import RunRecord
    from melt.report.select import Cell, Selection

_NEVER_TOLD = "the agent was killed before it could tell whether everything was put back"


def how_measured(selection: Selection) -> Iterator[str]:
    """Protocol, statistics, versions, and what measuring itself cost."""
    records = [run.record for run in selection.runs]
    yield (
        "Each run is a fresh engine process. Times are of the device's own monotonic clock, a stamp pair an "
        "inference; the warm-up is kept in the raw data and is in no figure."
    )
    yield (
        f"The run is the replicate: a figure is the geometric mean of the runs' own values (the hottest: their "
        f"highest), its {100 * CONFIDENCE:g} % interval Student's t on the logs of the run medians. "
        f"Under {MIN_RUNS} runs there is none."
    )
    if any(cell.generates for cell in selection.cells):
        yield (
            "A token's stamp is taken when it is known: decoding stands on the gaps between the tokens of a request. "
            "The bandwidth share is derived here and not stored: the bytes of weights that decoding reads in a second "
            "÷ the fastest read of memory that a roofline run of the device measured."
        )
    for found in selection.known_ceilings:
        yield f"Ceiling of {found.runs[0].device}: {_roofs(found)}; {found.source}."
    for told, who in _grouped((_protocol(record), record.cell) for record in records):
        yield f"Protocol: {told}{who}."
    for told, who in _grouped((_engine(record), record.workload) for record in records if record.engine):
        yield f"Engine: {told}{who}."
    yield from _cost([run.record for run in selection.used])
    versions = sorted({f"melt {record.melt}, metric version {record.metric_version}" for record in records})
    sessions = sorted({record.session for record in records})
    yield f"{'; '.join(versions)}. {'Session' if len(sessions) == 1 else 'Sessions'} {', '.join(sessions)}."


def caveats(selection: Selection) -> Iterator[str]:
    """What weakens the figures that are shown."""
    for told, who in _grouped((note, f"{c.device}, {c.label}") for c in selection.cells for note in row_notes(c)):
        yield f"{told}{who}"
    for cell in selection.cells:
        yield from _reasons(cell)
    for cell in selection.cells:
        if flag := above_ceiling(across(cell, SHARE)):
            yield f"{cell.device}, {cell.label}: a bandwidth share of {flag}"
    for told, who in _grouped((c, f"{r.device}/{r.cell}") for r in _records(selection) for c in r.caveats):
        yield f"{told}{who}"
    for record in _records(selection):
        if not record.undo.complete:
            changed = ", ".join(record.undo.changed)
            told = f"not everything that was changed was put back ({changed})" if changed else _NEVER_TOLD
            yield f"{record.device}, run {record.run_id}: {told}"
    for told, who in _settings(selection):
        yield f"{told}: {who}"
    yield from selection.notes


def _records(selection: Selection) -> list[RunRecord]:
    return [run.record for run in selection.runs]


def _settings(selection: Selection) -> Iterator[tuple[str, str]]:
    """Settings that differ among pooled runs, and that the fingerprint lets pass."""
    for cell in selection.cells:
        for key in sorted({key for run in cell.used for key in run.record.resolved}):
            values = {str(run.record.resolved[key].value) for run in cell.used if key in run.record.resolved}
            if len(values) > 1 and key != "protocol.seed":
                yield f"{cell.device}, {cell.label}: pooled runs differ in {key}", ", ".join(sorted(values))


def _reasons(cell: Cell) -> Iterator[str]:
    """Why runs that count are partial: a sentence for each code, with the range of figures that differ."""
    by_code: dict[str, list[tuple[str, str]]] = {}
    for run in cell.used:
        for reason in run.record.reasons:
            by_code.setdefault(reason.code.value, []).append((run.record.run_id, reason.detail))
    for code, found in by_code.items():
        runs = dict.fromkeys(run_id for run_id, _ in found)
        alike: dict[str, list[str]] = {}
        for _, detail in found:
            alike.setdefault(template(detail), []).append(detail)
        whose = f"in {len(runs)} of {counted(len(cell.used), 'run')} that count"
        if len(runs) == 1:
            whose = f"run {next(iter(runs))}"
        yield f"{cell.device}, {cell.label}, {whose}: {code}: {'; or '.join(map(together, alike.values()))}"


def _roofs(found: Ceiling) -> str:
    """`reads 21.3 GB/s with 2 threads and 12.1 GB/s with one, 45 G fp32 multiply-adds/s, int8 not known`."""
    one = found.centre(ONE_THREAD)
    at = f" with {counted(found.threads, 'thread')}" if found.threads else ""
    words = [f"reads {significant(found.read_bytes_per_s / 1e9)} GB/s{at}"]
    words[0] += f" and {significant(one / 1e9)} GB/s with one" if one and found.threads != 1 else ""
    for metric, name in ((FP32, "fp32"), (INT8, "int8")):
        rate = found.centre(metric)
        words.append(f"{significant(rate / 1e9)} G {name} multiply-adds/s" if rate else f"{name} not known")
    return ", ".join(words)


def _protocol(record: RunRecord) -> str:
    """`preset quick, 3 runs a cell, each at least 3 s and 11 inferences, …`: what the record has of it."""
    of = {key.removeprefix("protocol."): r.value for key, r in record.resolved.items() if key.startswith("protocol.")}
    least = _both(of.get("min_s"), of.get("min_n"))
    warm_up = _both(of.get("warmup_s"), of.get("warmup_n"))
    words = [
        f"preset {of['preset']}" if "preset" in of else "",
        counted(of["runs"], "run") + " a cell" if "runs" in of else "",
        f"each at least {least}" if least else "",
        f"after a warm-up of at least {warm_up}" if warm_up else "",
        f"idle window {_figure(of['idle_s'])} s" if of.get("idle_s") else "",
        f"order: {of['order']}" if "order" in of else "",
        f"seed {of['seed']}" if "seed" in of else "",
    ]
    return ", ".join(word for word in words if word) or "not in the record"


def _both(length_s: Any, number: Any) -> str:
    """`3 s and 11 inferences`, leaving out what asks for nothing."""
    words = (f"{_figure(length_s)} s" if length_s else "", counted(number, "inference") if number else "")
    return " and ".join(word for word in words if word)


def _figure(value: Any) -> str:
    """A setting as a person writes it: 3 and not 3.0; a record of elsewhere may hold anything."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _engine(record: RunRecord) -> str:
    name = record.fingerprint.hard.get("engine", "")
    told: dict[str, Any] = {k: v for k, v in record.engine.items() if v is not None and not isinstance(v, dict | list)}
    words = [f"{key} {value}" for key, value in list(told.items())[:12]]
    nodes = record.engine.get("provider_nodes")
    if isinstance(nodes, dict):
        words.append("nodes " + ", ".join(f"{name} {_count(found)}" for name, found in nodes.items()))
    output = record.engine.get("output")
    if isinstance(output, dict) and output.get("agrees") is not None:
        words.append(f"outputs {'agree' if output['agrees'] else 'DO NOT agree'} ({output.get('detail', '')})")
    return ", ".join([str(name), *words] if name else words)


def _count(nodes: Any) -> str:
    """How many nodes a provider took, told as a number or by kind of operator."""
    if isinstance(nodes, dict) and all(isinstance(count, int) for count in nodes.values()):
        return str(sum(nodes.values()))
    return str(nodes)


def _cost(used: Sequence[RunRecord]) -> Iterator[str]:
    shares = [r.harness.agent_cpu_share for r in used if r.harness.agent_cpu_share is not None]
    missed = [r.harness.missed_deadlines for r in used if r.harness.missed_deadlines is not None]
    late = [r.harness.late_p99_s for r in used if r.harness.late_p99_s is not None]
    samples = [r.harness.samples for r in used if r.harness.samples is not None]
    if not shares and not missed:
        yield "What measuring cost is not known: no run that counts says so."
        return
    words = []
    if shares:
        words.append(f"the agent took at most {significant(100 * max(shares), 2)} % of one core")
    if missed:
        of = f" of {counted(sum(samples), 'sample')}" if samples else ""
        words.append(f"missed {counted(sum(missed), 'deadline')}{of}")
    if late:
        words.append(f"was late by {seconds(max(late))} in the worst run's 99th percentile")
    yield f"Measuring cost: {', '.join(words)}."


def _grouped(pairs: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each text once, with whom it is about where that is not everybody."""
    about: dict[str, dict[str, None]] = {}
    for text, who in pairs:
        about.setdefault(text, {})[who] = None
    everybody = {who for found in about.values() for who in found}
    return [(t, "" if set(found) == everybody else f" ({'; '.join(found)})") for t, found in about.items()]
