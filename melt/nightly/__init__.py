"""The nightly gate: a suite's history judged for every device, cell and metric, with what is missing by name."""

from melt.nightly.judge import judge
from melt.nightly.result import Change, Judged, Missing, NightResult, Overall, Quarantine, State

__all__ = ["Change", "Judged", "Missing", "NightResult", "Overall", "Quarantine", "State", "judge"]
