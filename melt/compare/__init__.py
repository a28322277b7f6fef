"""Two sets of runs that differ in one declared axis: which cells belong together, and what may be said of them."""

from melt.compare.comparing import Asked, compared
from melt.compare.folders import compare_folders
from melt.compare.result import Comparison, Extreme, Matched, Overall, Unmatched, Verdict, shown

__all__ = [
    "Asked",
    "Comparison",
    "Extreme",
    "Matched",
    "Overall",
    "Unmatched",
    "Verdict",
    "compare_folders",
    "compared",
    "shown",
]
