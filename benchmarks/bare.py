"""`python -m benchmarks.bare MODEL INPUT WARMUP_S WARMUP_N MIN_S MIN_N THREADS SPIN`: a loop as a person writes one.

`SPIN` is 1 where idle threads spin, and 0 where they sleep. Nothing of melt is in this process. Prints
`{"p50_s": …, "n": …}`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


def main(
    model: str, raw: str, warmup_s: float, warmup_n: int, min_s: float, min_n: int, threads: int, spin: str
) -> None:
    """Times `session.run` until both of `min_s` and `min_n` hold, after one inference and the warm-up."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", spin)
    options.add_session_config_entry("session.inter_op.allow_spinning", spin)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    feeds = {node.name: np.frombuffer(Path(raw).read_bytes(), dtype="<f4").reshape(node.shape)}
    session.run(None, feeds)
    _loop(session, feeds, warmup_s, warmup_n)
    took_ns = _loop(session, feeds, min_s, min_n)
    print(json.dumps({"p50_s": float(np.percentile(took_ns, 50)) * 1e-9, "n": len(took_ns)}))


def _loop(session: Any, feeds: dict[str, Any], least_s: float, least_n: int) -> list[int]:
    took_ns: list[int] = []
    began = now = time.monotonic_ns()
    while len(took_ns) < least_n or now - began < least_s * 1e9:
        before = time.monotonic_ns()
        session.run(None, feeds)
        now = time.monotonic_ns()
        took_ns.append(now - before)
    return took_ns


if __name__ == "__main__":
    _model, _raw, _warmup_s, _warmup_n, _min_s, _min_n, _threads, _spin = sys.argv[1:]
    main(_model, _raw, float(_warmup_s), int(_warmup_n), float(_min_s), int(_min_n), int(_threads), _spin)
