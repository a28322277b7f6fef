"""What the analysis makes of a run's raw data: of a new run's, and of a stored one's again, by the same lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from melt.analysis.energy import idle_power
from melt.analysis.generation import weights_read
from melt.analysis.metrics import metrics
from melt.analysis.verdict import judge
from melt.records import METRIC_VERSION, IdlePower

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from melt.analysis.events import Asked, RunEvents
    from melt.records import EnergyBasis, Metric, Reason, SensorNote

_NONE: Mapping[str, Metric] = MappingProxyType({})


@dataclass(frozen=True)
class Analysed:
    """The figures of a run, each with its metric version, and every reason that its raw data gives."""

    metrics: Mapping[str, Metric]
    reasons: tuple[Reason, ...]
    energy: EnergyBasis
    """What was asked, and the idle power of the run's own where it has measured one."""
    carried: tuple[str, ...] = ()
    """Which metrics are not of this analysis."""


def analysed(
    told: RunEvents,
    trace: pd.DataFrame,
    channels: Mapping[str, SensorNote],
    asked: Asked,
    run_id: str,
    *,
    adopted: Mapping[str, Metric] = _NONE,
    earlier: Mapping[str, Metric] = _NONE,
) -> Analysed:
    """Everything that follows from a run's events and trace.

    `adopted` is what the engine's own words say, and stands in place of what is computed. `earlier` are figures of an
    earlier analysis, which stand only where there is no other, and keep their version.
    """
    own_idle = idle_power(told, trace, channels, asked, run_id)
    if isinstance(own_idle, IdlePower):
        asked = replace(asked, energy=asked.energy.model_copy(update={"idle": own_idle}))
    fresh = of_today({**metrics(told, trace, channels, asked), **adopted})
    carried = {name: metric for name, metric in earlier.items() if name not in fresh}
    derived = of_today(weights_read({**fresh, **carried}))
    return Analysed(
        metrics={**fresh, **carried, **derived},
        reasons=judge(told, trace, channels, asked),
        energy=asked.energy,
        carried=tuple(name for name in carried if name not in derived),
    )


def of_today(measured: Mapping[str, Metric]) -> dict[str, Metric]:
    """The figures, each saying that it is of today's metric version."""
    return {name: metric.model_copy(update={"version": METRIC_VERSION}) for name, metric in measured.items()}


def one_a_code(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """The first reason of each code."""
    return tuple({reason.code: reason for reason in reversed(reasons)}.values())[::-1]


def tokens(measured: Mapping[str, Metric]) -> float:
    """How many tokens the measured phase has left."""
    made = measured.get("generated_tokens")
    return made.value or 0 if made else 0
