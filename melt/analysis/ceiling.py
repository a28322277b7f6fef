"""A device's own ceiling, as a roofline run measured it, and the share of its memory bandwidth that decoding reaches.

Decoding reads every weight that takes part once for each token, so its rate × the bytes of these weights is a rate of
reading. The share is derived whenever it is shown, and never stored: the ceiling may be measured after the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from melt.analysis.summary import Summary, summarise
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from melt.records import RunRecord

ENGINE = "roofline"
SHARE = "bandwidth_share"
READ = "read_bytes_per_s"
ONE_THREAD = "read_bytes_per_s.t1"
FP32, INT8 = "fp32_madd_per_s", "int8_madd_per_s"
DECODE_READ = "decode_read_bytes_per_s"
NO_CEILING = "no_ceiling: no ceiling of this device is known: melt run workloads/roofline.yaml"
NOT_TOLD = "not_recorded: the run's record does not say how many bytes of weights a token reads"
ON_GPU = "no_ceiling: layers of the model were on a GPU, whose memory the roofline does not measure"
_BY_THREADS = re.compile(r"read_bytes_per_s\.t([0-9]{1,4})")


@dataclass(frozen=True)
class Ceiling:
    """What a device can do at most: `runs` are roofline runs of one session that may be pooled, at least one."""

    runs: tuple[RunRecord, ...]

    @cached_property
    def _summaries(self) -> dict[str, Summary]:
        return {}

    def across(self, metric: str) -> Summary:
        """A metric of the roofline over the runs."""
        if metric not in self._summaries:
            self._summaries[metric] = summarise([_value(run, metric) for run in self.runs])
        return self._summaries[metric]

    def centre(self, metric: str) -> float | None:
        """The metric as a positive number; None where it is not known."""
        value = self.across(metric).centre
        return value if value is not None and value > 0 else None

    @property
    def read_bytes_per_s(self) -> float:
        """The fastest read of memory, of all numbers of threads."""
        return self.centre(READ) or float("nan")

    @cached_property
    def threads(self) -> int | None:
        """The number of threads that read fastest; None where no run says so."""
        counts = {int(m[1]) for run in self.runs for name in run.metrics if (m := _BY_THREADS.fullmatch(name))}
        rates = {n: rate for n in sorted(counts) if (rate := self.centre(f"{READ}.t{n}")) is not None}
        return max(rates, key=lambda n: rates[n]) if rates else None

    @property
    def source(self) -> str:
        """Which runs it came from."""
        first = self.runs[0]
        named = f"run {first.run_id}" if len(self.runs) == 1 else f"{len(self.runs)} runs, the last {first.run_id}"
        return f"{named} of suite {first.suite.name}, session {first.session}"

    @property
    def about(self) -> str:
        """One sentence for a reader of a share."""
        at = f", with {_threads(self.threads)}" if self.threads else ""
        rate = self.read_bytes_per_s / 1e9
        return f"of {rate:.4g} GB/s, the fastest read{at}, by {self.source}, of the memory of {self.runs[0].device}"


def ceiling(of: RunRecord, among: Iterable[RunRecord]) -> Ceiling | None:
    """The newest ceiling of the device that `of` ran on; None when none of the runs is a usable roofline of it.

    The boot may be another. Runs of the newest one's session that may be pooled count together; where it has several
    such groups (a sweep of threads), it is the one that read fastest.
    """
    found = {run.run_id: run for run in among if _is_ceiling(run) and same_device(of, run)}
    if not found:
        return None
    ranked = sorted(found.values(), key=lambda run: (run.session, run.run_id), reverse=True)
    newest = ranked[0]
    session = [run for run in ranked if (run.session, run.suite.name) == (newest.session, newest.suite.name)]
    best = max(session, key=lambda run: _value(run, READ) or 0.0)
    return Ceiling(tuple(run for run in session if _pooled(run) == _pooled(best)))


def share(of: RunRecord, known: Ceiling | None) -> Metric:
    """The metric `bandwidth_share` of a run: 1 is the whole ceiling; or a gap with its reason."""
    reads = of.metrics.get(DECODE_READ)
    if reads is None or reads.value is None:
        return gap((reads.reason if reads else None) or NOT_TOLD)
    if _layers_on_gpu(of):
        return gap(ON_GPU)
    if known is None:
        return gap(NO_CEILING)
    return Metric(value=reads.value / known.read_bytes_per_s, n=reads.n, note=known.about)


def same_device(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs are of one device: name, profile and machine alike, and not two processors of one name."""
    chips = {chip for run in (one, other) if isinstance(chip := run.facts.get("soc"), str)}
    return _device(one) == _device(other) and len(chips) < 2  # noqa: PLR2004 - both known, and unlike


def _device(run: RunRecord) -> tuple[Any, ...]:
    return run.device, run.profile, run.fingerprint.hard.get("machine"), run.simulated, run.metric_version


def _is_ceiling(run: RunRecord) -> bool:
    return run.usable and run.fingerprint.hard.get("engine") == ENGINE and (_value(run, READ) or 0) > 0


def _pooled(run: RunRecord) -> tuple[str, str, str, Mapping[str, Any]]:
    return run.session, run.suite.name, run.cell, dict(run.fingerprint.hard)


def _value(run: RunRecord, metric: str) -> float | None:
    found = run.metrics.get(metric)
    return None if found is None else found.value


def _layers_on_gpu(run: RunRecord) -> bool:
    """Whether there were any: as the engine tells, else as it was asked."""
    used = run.engine.get("gpu_layers")
    if isinstance(used, int):
        return used > 0
    asked = run.resolved.get("params.gpu_layers")
    return asked is not None and isinstance(asked.value, int) and asked.value > 0


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"
