"""One device: a profile reached over a transport, with melt's agent on it and its facts known."""

from melt.device.blobs import Blobs, sha256_of
from melt.device.connect import connect
from melt.device.device import Device, Say, machine_of, open_device

__all__ = ["Blobs", "Device", "Say", "connect", "machine_of", "open_device", "sha256_of"]
