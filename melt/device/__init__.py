"""One device: a profile reached over a transport, with melt's agent on it and its facts known."""

from melt.device.blobs import Blobs, sha256_of
from melt.device.connect import connect
from melt.device.device import Device, Say, machine_of, open_device
from melt.device.sending import Moved

__all__ = ["Blobs", "Device", "Moved", "Say", "connect", "machine_of", "open_device", "sha256_of"]
