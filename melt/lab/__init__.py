"""A suite on a lab: the plan of its cells, and the session that carries it out, one worker for each device."""

from melt.lab.plan import Cell, Plan, make_plan
from melt.lab.session import Outcome, begin_session, carry_out_session, resume_session
from melt.lab.worker import Progress

__all__ = [
    "Cell",
    "Outcome",
    "Plan",
    "Progress",
    "begin_session",
    "carry_out_session",
    "make_plan",
    "resume_session",
]
