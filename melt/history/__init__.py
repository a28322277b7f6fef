"""The results of many sessions as one table, `index.parquet`, and as series of nights."""

from melt.history.index import Index, read, rebuild, refresh, suites
from melt.history.table import COLUMNS, INDEX

__all__ = ["COLUMNS", "INDEX", "Index", "read", "rebuild", "refresh", "suites"]
