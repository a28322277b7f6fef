"""The results of many sessions as one table, `index.parquet`, and as series of nights."""

from melt.history.index import Index, after_session, read, rebuild, refresh, suites
from melt.history.table import COLUMNS, INDEX

__all__ = ["COLUMNS", "INDEX", "Index", "after_session", "read", "rebuild", "refresh", "suites"]
