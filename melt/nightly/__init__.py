"""The nightly gate: a suite's history judged for every device, cell and metric, with what is missing by name."""
