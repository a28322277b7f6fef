"""What is called no difference on a device: 3 %, or what its own nights differ by where that is more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from melt.analysis.contrast import DELTA
from melt.history.order import order_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

NIGHTS = 5
"""So many nights of a cell tell how far they lie apart."""
_TO_SD = 1.4826
_FACTOR = 2.0
_OF_TWO = 2**0.5
"""A step has the noise of two nights."""
_OF_SERIES = ["suite", "device", "cell", "hard", "metric"]


@dataclass(frozen=True)
class Delta:
    """The share, and where it comes from."""

    share: float
    source: str


@dataclass(frozen=True)
class Deltas:
    """What is no difference, by device and metric."""

    given: float | None
    found: Mapping[tuple[str, str], tuple[float, int, int]]
    """Spread, cells and nights, from the history."""

    def of(self, device: str, metric: str) -> Delta:
        """The δ of a metric on a device."""
        if self.given is not None:
            return Delta(self.given, "--delta")
        history = self.found.get((device, metric))
        if history is None:
            return Delta(DELTA, f"the default; no cell of {device} has {NIGHTS} nights of it")
        spread, cells, nights = history
        told = f"2 robust sd of {nights} nights of {cells} cells of {device} are {spread:.2%}"
        return Delta(DELTA, f"the default; {told}") if spread <= DELTA else Delta(spread, told)


def deltas(histories: Collection[pd.DataFrame], metrics: Collection[str], given: float | None) -> Deltas:
    """From the whole index of each suite that is compared: 2 × 1.4826 ÷ √2 × the MAD of the steps between nights.

    A step is of the logs of the medians of a cell's night and its next; a device's cells are taken together. Steps,
    since a night on which the level changed is one step among many, and would else make nights of both levels noise.
    """
    if given is not None:
        return Deltas(given, {})
    medians = [one for frame in histories if (one := _medians(frame, metrics)) is not None]
    if not medians:
        return Deltas(None, {})
    table = pd.concat(medians, keys=range(len(medians)), names=["history"]).reset_index("history")
    found: dict[tuple[str, str], tuple[float, int, int]] = {}
    for (device, metric), mine in table.groupby(["device", "metric"], observed=True, sort=False):
        steps = np.abs(mine["step"].dropna().to_numpy())
        spread = float(np.expm1(_FACTOR * _TO_SD / _OF_TWO * np.median(steps)))
        found[str(device), str(metric)] = (spread, len(mine[["history", "series"]].drop_duplicates()), len(mine))
    return Deltas(None, found)


def _medians(frame: pd.DataFrame, metrics: Collection[str]) -> pd.DataFrame | None:
    """A row a series and night: how far the log of its median lies from the night's before; None where none is long."""
    if frame["session"].nunique() < NIGHTS:
        return None
    wanted = frame["metric"].isin(list(metrics)) & frame["counts"].to_numpy(dtype=bool) & (frame["value"] > 0)
    rows = frame[wanted.to_numpy(dtype=bool)]
    if not len(rows):
        return None
    runs = frame.drop_duplicates(["suite", "folder"])
    nights = {
        (suite, session): number
        for suite, of_suite in order_of(runs, {}).nights.items()
        for number, sessions in enumerate(of_suite)
        for session in sessions
    }
    keys = rows[["suite", "session"]].drop_duplicates()
    numbers = [nights[str(s), str(n)] for s, n in keys.itertuples(index=False, name=None)]
    keys = keys.assign(night=numbers)
    series = rows.groupby(_OF_SERIES, observed=True, sort=False).ngroup().to_numpy()
    night = rows[["suite", "session"]].merge(keys, on=["suite", "session"], how="left")["night"].to_numpy()
    small = pd.DataFrame(
        {
            "series": series,
            "night": night,
            "device": rows["device"].astype(str).to_numpy(),
            "metric": rows["metric"].astype(str).to_numpy(),
            "log": np.log(rows["value"].to_numpy(dtype=np.float64)),
        }
    )
    each = small.groupby(["series", "night"], sort=False).agg(
        device=("device", "first"), metric=("metric", "first"), log=("log", "median")
    )
    each = each.reset_index().sort_values(["series", "night"], kind="stable")
    of_series = each.groupby("series")["log"]
    each["step"] = of_series.diff()
    return each[(of_series.transform("size") >= NIGHTS).to_numpy(dtype=bool)]
