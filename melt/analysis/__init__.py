"""Pure functions from a run's raw data to its metrics, its verdict, and summaries across runs.

`metrics.metrics` and `verdict.judge` take the same four things: the events, the trace, what its channels are, and
what was asked. They raise on nothing that a dying device can leave behind: what is not known is a gap with its
reason. All durations are CLOCK_MONOTONIC nanoseconds of the device; results are SI.
"""
