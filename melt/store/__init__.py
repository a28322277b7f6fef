"""The results folder, which is the truth: sessions, run folders written whole or not at all, and what is still open.

results/<suite>/<session>/session.json      what was to be done
results/<suite>/<session>/pending/<run id>  a job that was started and not yet collected
results/<suite>/<session>/<run id>/         one run: run.json and its raw data
results/<suite>/<session>/<run id>/analysis-<metric version>.json   what a later analysis of that raw data gives
"""

from melt.store.files import digest_of, write_text
from melt.store.records import Analysis, CellRecord, Pending, SessionRecord, Slot
from melt.store.runs import (
    HALF,
    StoredRun,
    Unreadable,
    analysis_file,
    found_below,
    half_a_run,
    keep_analysis,
    read_run,
    read_runs,
    run_folders,
)
from melt.store.session import (
    Session,
    find_session,
    new_run_id,
    new_session,
    open_session,
    sessions,
    utc_stamp,
)

__all__ = [
    "HALF",
    "Analysis",
    "CellRecord",
    "Pending",
    "Session",
    "SessionRecord",
    "Slot",
    "StoredRun",
    "Unreadable",
    "analysis_file",
    "digest_of",
    "find_session",
    "found_below",
    "half_a_run",
    "keep_analysis",
    "new_run_id",
    "new_session",
    "open_session",
    "read_run",
    "read_runs",
    "run_folders",
    "sessions",
    "utc_stamp",
    "write_text",
]
