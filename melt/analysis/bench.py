"""llama-bench's own figures, by its own definitions: never to be mixed with the rates of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.events import mark_t, whole
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.measured import Measured
    from melt.records import Event

_KINDS = ("pp", "tg")


def bench(measured: Measured) -> dict[str, Metric]:
    """`pp_tok_per_s` and `tg_tok_per_s`, in tokens a second; none for a run that timed neither.

    Each repetition has one rate, its tokens ÷ the wall time from an empty context on; the figure is their mean, as
    llama-bench prints it. `n` is how many repetitions there were. One that was asked for and never ended is a gap.
    """
    begun = {kind: [e for e in measured.landmarks if e.ev == f"bench.{kind}.begin"] for kind in _KINDS}
    return {f"{kind}_tok_per_s": _rate(measured.landmarks, kind) for kind in _KINDS if begun[kind]}


def _rate(events: Sequence[Event], kind: str) -> Metric:
    begin, end = mark_t(events, "measure.begin"), mark_t(events, "measure.end")
    rates: list[float] = []
    started: tuple[int, int] | None = None
    for event in events:
        if event.ev == f"bench.{kind}.begin":
            n = whole(event.get("n"))
            started = (event.t, n) if n is not None and n > 0 else None
        elif event.ev == f"bench.{kind}.end" and started is not None:
            began, n = started
            inside = begin is not None and begin <= began and (end is None or event.t <= end)
            if inside and event.t > began:
                rates.append(n / ((event.t - began) * 1e-9))
            started = None
    if not rates:
        return gap("no_measurement: no repetition of the measured phase ended")
    deviation = f"deviation {float(np.std(rates, ddof=1)):.3g}" if len(rates) > 1 else "one repetition"
    return Metric(value=float(np.mean(rates)), n=len(rates), note=f"llama-bench's definition; {deviation}")
