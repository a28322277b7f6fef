"""How the runs were measured, and what a reader must be warned of, as plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from melt.analysis.summary import CONFIDENCE, MIN_RUNS
from melt.report.numbers import counted, seconds, significant
from melt.report.table import table_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from melt.records import RunRecord
    from melt.report.select import Selection

_PROTOCOL = (
    ("preset", "preset {}"),
    ("runs", "{} runs a cell"),
    ("min_s", "each at least {} s"),
    ("min_n", "and {} inferences"),
    ("warmup_s", "after a warm-up of at least {} s"),
    ("warmup_n", "and {} inferences"),
    ("idle_s", "idle window {} s"),
    ("order", "order: {}"),
    ("seed", "seed {}"),
)


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
    rows = zip(selection.cells, table_of(selection).rows, strict=True)
    for told, who in _grouped((note, f"{c.device}, {c.label}") for c, row in rows for note in row.notes):
        yield f"{told}{who}"
    for run in selection.used:
        record = run.record
        for reason in record.reasons:
            yield f"{record.device}, {record.cell}, run {record.run_id}: {reason.code}: {reason.detail}"
    for told, who in _grouped((c, f"{r.device}/{r.cell}") for r in _records(selection) for c in r.caveats):
        yield f"{told}{who}"
    for record in _records(selection):
        if not record.undo.complete:
            changed = ", ".join(record.undo.changed) or "what, the record does not say"
            yield f"{record.device}, run {record.run_id}: not everything that was changed was put back ({changed})"
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


def _protocol(record: RunRecord) -> str:
    resolved = record.resolved
    words = [say.format(resolved[f"protocol.{key}"].value) for key, say in _PROTOCOL if f"protocol.{key}" in resolved]
    return ", ".join(words) or "not in the record"


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
