"""Whether a run slowed down, told from its latencies alone.

The last third is compared with the first by the means of blocks of logs, six a third, and a one-sided t test: long
blocks carry the correlation of neighbours, which a test on single samples takes for certainty. The error is that of
the blocks around one slope common to both thirds, or else a steady slow-down would count as its own noise. Slowed is
at least 3 % and p < .003.

Chosen by simulation of AR(1) noise, correlation up to .8: at the worst (300 samples, noise of 10 %) 0.8 % of steady
series are called slowed, at noise of 2 % none, where 98 % of slow-downs by 5 % are found, as a step or as a ramp. At
noise of 3 % and correlation .8 finding 95 % takes 600 samples: of 300 the thirds themselves wander by more than 1 %.
The hardest slow-down by 5 % is a ramp that ends at two thirds, for the first third is in it: of those 89 % are found at
300 samples, noise of 2 % and correlation .8, and 99 % at noise of 1 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from melt.records import Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from melt.analysis.events import Float64s

MIN_SAMPLES = 300
SLOWER = 0.03
BLOCKS = 6
FREEDOM = 2 * BLOCKS - 3
CRITICAL_T = float(stdtrit(FREEDOM, 0.997))


def slowed(durations: Float64s) -> Iterator[Reason]:
    """The reason `slowed`, or nothing: `durations` has shape (n,), in time order; under 300 nothing is told."""
    n = durations.size
    if n < MIN_SAMPLES or durations.min() <= 0:
        return
    size = n // 3 // BLOCKS
    logs = np.log(durations)
    thirds = np.stack([logs[: size * BLOCKS], logs[n - size * BLOCKS :]]).reshape(2, BLOCKS, size).mean(axis=2)
    centre = thirds.mean(axis=1, keepdims=True)
    change = float(centre[1, 0] - centre[0, 0])
    position = np.arange(BLOCKS) - (BLOCKS - 1) / 2
    slope = float(((thirds - centre) @ position).sum() / (2 * position @ position))
    left = thirds - centre - slope * position
    error = float(np.sqrt(2 / BLOCKS * (left**2).sum() / FREEDOM))
    if change >= np.log1p(SLOWER) and change > CRITICAL_T * error:
        yield Reason(
            code=ReasonCode.SLOWED,
            detail=f"the last third of {n} inferences was {np.expm1(change):.1%} slower than the first",
        )
