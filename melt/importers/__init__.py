"""Results of other tools as runs of melt's own store: recomputed, each correction listed, the raw files kept."""

from melt.importers.base import Imported, ImportedRun, Importer, Series, fingerprint, not_told
from melt.importers.gathering import Gathered, gather
from melt.importers.google_benchmark import GoogleBenchmark
from melt.importers.llama_bench import LlamaBench
from melt.importers.perf_test import PerfTest
from melt.importers.planning import Placed, Plan, plan
from melt.importers.publishing import publish
from melt.importers.pytest_benchmark import PytestBenchmark
from melt.importers.study import StudyImporter

IMPORTERS: tuple[Importer, ...] = (LlamaBench(), PytestBenchmark(), GoogleBenchmark(), PerfTest(), StudyImporter())
"""In the order in which each is asked whether a file is its own: the more telling ones first."""

__all__ = [
    "IMPORTERS",
    "Gathered",
    "Imported",
    "ImportedRun",
    "Importer",
    "Placed",
    "Plan",
    "Series",
    "fingerprint",
    "gather",
    "not_told",
    "plan",
    "publish",
]
