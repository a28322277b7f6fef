"""An index of 10,000 runs × 20 metrics, 500 cells in two sessions, for the time that a comparison takes.

As a program, with `make PATH`, it writes one; with `PATH` it compares that from a cold start, and prints the CPU
seconds, the wall seconds, the peak of its memory in MB and the number of verdicts.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

METRICS = (
    *("latency_p50_s", "latency_p99_s", "inferences_per_s", "first_inference_s", "decode_tok_per_s"),
    *("prefill_tok_per_s", "ttft_s", "ttft_text_s", "itl_p50_s", "itl_p99_s", "tg_tok_per_s", "pp_tok_per_s"),
    *("score_tok_per_s", "perplexity", "sustained_ratio", "load_s", "load_cold_s", "load_warm_s"),
    *("peak_memory_bytes", "read_bytes_per_s"),
)
SESSIONS = ("20261121T030000Z", "20261122T030000Z")


def big(cells: int = 500, blocks: int = 10, seed: int = 1) -> pd.DataFrame:
    """The frame of an index; the second session is 5 % above the first in every metric."""
    n_runs, n_metrics = len(SESSIONS) * blocks * cells, len(METRICS)
    run = np.repeat(np.arange(n_runs), n_metrics)
    cell, block, session = run % cells, run // cells % blocks, run // cells // blocks
    metric = np.tile(np.arange(n_metrics), n_runs)
    noise = np.random.default_rng(seed).normal(0, 0.02, len(run))

    def words(codes: np.ndarray, names: list[str]) -> pd.Categorical:
        return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(pd.Index(names, dtype=object)))

    def one(name: str) -> pd.Categorical:
        return words(np.zeros(len(run), dtype=np.int64), [name])

    ids = [f"{SESSIONS[n // cells // blocks]}-{n:08x}" for n in range(n_runs)]
    none = words(np.full(len(run), -1), [])
    begins = pd.to_datetime([name[:15] for name in SESSIONS], utc=True)
    return pd.DataFrame(
        {
            "suite": one("big"),
            "suite_sha256": one("0" * 64),
            "session": words(session, list(SESSIONS)),
            "run_id": words(run, ids),
            "started_utc": begins[session],
            "device": words(cell % 5, [f"board{n}" for n in range(5)]),
            "workload": words(cell, [f"w{n}" for n in range(cells)]),
            "cell": words(cell, [f"w{n}" for n in range(cells)]),
            "block": block.astype(np.int32),
            "status": one("ok"),
            "verdict": one("valid"),
            "reasons": one(""),
            "usable": True,
            "counts": True,
            "caveats": one(""),
            "simulated": False,
            "synthetic_model": False,
            "imported": none,
            "boot_id": one("b"),
            "boottime_s": session * 86_400.0 + block,
            "hard": words(cell, [_hard(n) for n in range(cells)]),
            "soft": one(json.dumps({"kernel": "6.1", "melt": "0.1.0"})),
            "folder": words(run, ids),
            "metric": words(metric, list(METRICS)),
            "value": (metric + 1) * np.exp(noise + 0.05 * session),
            "error": np.full(len(run), np.nan),
            "unit": one("1"),
            "total": none,
            "reason": none,
            "metric_version": np.full(len(run), 2, dtype=np.int32),
        }
    )


def _hard(cell: int) -> str:
    """As long as a real one."""
    keys = {f"parameter_{n}": n for n in range(30)}
    about = {"workload": f"w{cell}", "metric_version": 2, "model_sha256": f"{cell:064x}", "held": ["x=1"] * 5}
    return json.dumps({**keys, **about}, sort_keys=True)


def main(path: Path) -> None:
    from melt.compare import Asked, compared  # noqa: PLC0415 - what is timed begins with the import
    from melt.history.index import Index  # noqa: PLC0415

    frame = pd.read_parquet(path)
    found = compared({"big": Index(frame)}, [frame], Asked())
    spent = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "cpu_s": spent.ru_utime + spent.ru_stime,
                "wall_s": time.monotonic() - BEGAN,
                "peak_mb": spent.ru_maxrss / 1e3,
                "verdicts": len(found.verdicts),
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1] == "make":
        big().to_parquet(sys.argv[2])
    else:
        main(Path(sys.argv[1]))
