"""One run: precheck, deliver, start, watch, collect, store."""

from melt.run.model import model_file
from melt.run.run import Context, carry_out, finish, give_up

__all__ = ["Context", "carry_out", "finish", "give_up", "model_file"]
