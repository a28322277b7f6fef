"""One run: precheck, deliver, start, watch, collect, store."""

from melt.run.context import Context
from melt.run.model import model_file
from melt.run.run import carry_out, finish

__all__ = ["Context", "carry_out", "finish", "model_file"]
