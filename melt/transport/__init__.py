"""How a device is reached: the seam (`Transport`), its words, and one file for each way."""

from melt.transport.base import Completed, Deadline, Process, Transport, shown
from melt.transport.local import LocalTransport

__all__ = ["Completed", "Deadline", "LocalTransport", "Process", "Transport", "shown"]
