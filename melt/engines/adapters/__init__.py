"""What programs that know nothing of melt print about themselves, one pure parser for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.engines.adapters import llama_bench, llama_server, perf_test
from melt.engines.adapters.told import Adapter, Printed, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

ADAPTERS: Mapping[str, Adapter] = {
    "llama-bench": Adapter(llama_bench.NAMES, llama_bench.parse),
    "llama-server": Adapter(llama_server.NAMES, llama_server.parse),
    "onnxruntime-perf-test": Adapter(perf_test.NAMES, perf_test.parse),
}
"""By the name that a workload gives as `output`."""

__all__ = ["ADAPTERS", "Adapter", "Printed", "Told"]
