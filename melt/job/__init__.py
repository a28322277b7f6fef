"""The job that a device carries out by itself: its plan, its life, and what it leaves."""

from melt.job.events import parse_events, read_events
from melt.job.job import JobStatus, collect, forget, start, status, stop, watch
from melt.job.plan import Hold, JobPlan, User
from melt.job.trace import ENGINE_SENSOR, notes, read_trace

__all__ = [
    "ENGINE_SENSOR",
    "Hold",
    "JobPlan",
    "JobStatus",
    "User",
    "collect",
    "forget",
    "notes",
    "parse_events",
    "read_events",
    "read_trace",
    "start",
    "status",
    "stop",
    "watch",
]
