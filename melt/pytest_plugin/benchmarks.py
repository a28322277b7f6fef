"""The runs in pytest-benchmark's table and JSON, where it is there: one value a run.

Its figures are times. So a run counts with the time of one inference, or of one token where a model generates; every
other metric is in `extra_info`, by its name with its unit.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

    from melt.pytest_plugin.measured import Measured

_TIMES: Mapping[str, Callable[[float], float]] = {
    "decode_tok_per_s": lambda rate: 1 / rate,
    "tg_tok_per_s": lambda rate: 1 / rate,
    "latency_p50_s": lambda seconds: seconds,
    "pp_tok_per_s": lambda rate: 1 / rate,
    "latency_mean_s": lambda seconds: seconds,
}
"""What a run's one time is made of: the first of these that every run has."""


def tell(node: pytest.Item, measured: Measured) -> None:
    """Adds the runs to pytest-benchmark's session; nothing where there is none, or it is told to measure nothing."""
    session = getattr(node.config, "_benchmarksession", None)
    if session is None or session.disabled or session.skip:
        return
    name = next((name for name in _TIMES if _known(measured, name)), None)
    if name is None:
        return
    from pytest_benchmark import stats  # noqa: PLC0415 - where it is active, and so is there

    metadata: Any = stats.Metadata
    of = _about(node, measured, name, {bench.fullname for bench in session.benchmarks})
    entry = metadata(of, iterations=1, options={})
    for value in measured.values(name):
        entry.update(_TIMES[name](value))
    session.benchmarks.append(entry)


def _known(measured: Measured, name: str) -> bool:
    metric = measured.metrics.get(name)
    return metric is not None and bool(metric.value)


def _about(node: pytest.Item, measured: Measured, metric: str, taken: set[str]) -> SimpleNamespace:
    """What pytest-benchmark asks of a fixture of its own."""
    callspec: Any = getattr(node, "callspec", None)
    end = f":{measured.device}/{measured.cell}"
    again = 1
    while f"{node.nodeid}{end}{f'#{again}' if again > 1 else ''}" in taken:
        again += 1
    end += f"#{again}" if again > 1 else ""
    metrics = {name: m.value for name, m in measured.metrics.items() if m.value is not None}
    return SimpleNamespace(
        name=f"{node.name}{end}",
        fullname=f"{node.nodeid}{end}",
        group=f"melt: one {'inference' if metric.startswith('latency') else 'token'} ({metric})",
        param=callspec.id if callspec is not None else None,
        params={key: str(value) for key, value in callspec.params.items()} if callspec is not None else None,
        extra_info={
            "melt_device": measured.device,
            "melt_cell": measured.cell,
            "melt_metric": metric,
            "melt_verdicts": [record.verdict for record in measured.records],
            "melt_runs": [record.run_id for record in measured.records],
            "melt_metrics": metrics,
        },
        cprofile_stats=None,
        has_error=False,
    )
