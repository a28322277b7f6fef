"""Fixtures for tests that measure: `melt_device` and `melt_run`, on the devices of `--melt-lab`."""
