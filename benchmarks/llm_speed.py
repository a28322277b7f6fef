"""Whether melt measures what llama-bench measures, and what its sensors cost a model that decodes."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from pathlib import Path

from benchmarks import llama_bench
from benchmarks.agent import TMPFS, sensors_in
from benchmarks.harness import Figure, Round
from benchmarks.llm import level
from melt.analysis.bench import bench
from melt.analysis.events import Asked
from melt.analysis.generation import generation
from melt.analysis.measured import Measured, measure
from melt.analysis.summary import summarise
from melt.device import open_device
from melt.errors import DeviceError
from melt.files import LabDevice, load_profile
from melt.job import JobPlan, read_events, start, watch
from melt.makers import gguf
from melt.native import build_llama_runner
from melt.store import new_run_id

_MODEL = "qwen2.5-0.5b"
_LIMIT_S = 300
_ROUNDS = 5
_REPETITIONS = 3
_TURNS = 2
"""Of ours and theirs in each round; the order changes from one to the next."""
_PROMPT, _DECODED = 256, 64
_PAIRS = 12


def llm_prefill_fidelity(this: Round) -> float:
    """Ours ÷ theirs for a prompt of 256 tokens; the best repetition of each, since a busy machine only ever slows."""
    return _fidelity(this, _PROMPT, 0)


def llm_decode_fidelity(this: Round) -> float:
    """Ours ÷ theirs for 64 single tokens."""
    return _fidelity(this, 0, _DECODED)


def _fidelity(this: Round, prompt_tokens: int, generate_tokens: int) -> float:
    model, theirs = _model(this), llama_bench.build_llama_bench(level())
    best = {"melt": 0.0, "llama-bench": 0.0}
    for turn in range(_TURNS):
        for who in ("melt", "llama-bench") if (turn + this.number) % 2 else ("llama-bench", "melt"):
            if who == "melt":
                counts = ["--prompt-tokens", str(prompt_tokens), "--generate-tokens", str(generate_tokens)]
                least = (prompt_tokens + generate_tokens) * _REPETITIONS
                told = _by_itself(this, model, ["--mode", "bench", *counts, "--context", "512", "--min-n", str(least)])
                found = max(_rates(told, "pp" if prompt_tokens else "tg"))
            else:
                found = max(llama_bench.rates(theirs, model, prompt_tokens, generate_tokens, _REPETITIONS))
            best[who] = max(best[who], found)
    return best["melt"] / best["llama-bench"]


def llm_observer_effect(this: Round) -> float:
    """Decoding under the agent with 20 files read at 50 Hz ÷ the runner by itself, one thread.

    Of twelve pairs the lower end of the 95 % interval of their geometric mean.
    """
    model = _model(this)
    # 2 s a run: 130 tokens of which 129 gaps count
    how = ["--mode", "fixed", "--prompt-tokens", "8", "--generate-tokens", "130", "--context", "256", "--min-n", "130"]
    ratios = []
    for pair in range(_PAIRS):
        found = {}
        for observed in (True, False) if pair % 2 else (False, True):
            told = _observed(this, model, how) if observed else _by_itself(this, model, how)
            rate = generation(told)["decode_tok_per_s"].value
            if rate is None:
                raise DeviceError("a run decoded nothing")
            found[observed] = rate
        ratios.append(found[True] / found[False])
    low = summarise(ratios).low
    if low is None:
        raise DeviceError("the pairs give no interval")
    return low


def _model(this: Round) -> Path:
    path = this.folder / "model.gguf"
    if not path.exists():
        gguf.make(_MODEL, path, quant="q4_0")
    return path


def _argv(model: Path, folder: Path, how: list[str]) -> list[str]:
    files = ["--model", str(model), "--events", f"{folder}/events.jsonl", "--output", f"{folder}/output.bin"]
    return [str(build_llama_runner(level())), *files, "--threads", "1", "--warmup-n", "1", *how]


def _by_itself(this: Round, model: Path, how: list[str]) -> Measured:
    events = this.folder / "events.jsonl"
    events.unlink(missing_ok=True)
    subprocess.run(_argv(model, this.folder, how), capture_output=True, timeout=_LIMIT_S, check=True)
    return measure(read_events(events), Asked())


def _observed(this: Round, model: Path, how: list[str]) -> Measured:
    """The same under the agent, in a work folder of its own so that its lock is nobody else's."""
    spec = LabDevice(profile="linux", address="local:", workdir=str(this.folder))
    with (
        tempfile.TemporaryDirectory(dir=TMPFS, prefix="melt-bench-") as files,
        open_device("local", spec, load_profile("linux")) as device,
    ):
        run_id = new_run_id()
        folder = Path(device.job_dir(run_id))
        engine = _argv(model, folder, how)
        start(device, JobPlan(run_id, device.lock, _LIMIT_S, engine, sensors=sensors_in(Path(files))))
        ended = watch(device, run_id, _LIMIT_S)
        if ended.state != "done" or ended.exit != 0:
            raise DeviceError(f"the job did not end well: {ended.model_dump_json()}")
        return measure(read_events(folder / "events.jsonl"), Asked())


def _rates(told: Measured, kind: str) -> list[float]:
    """Tokens a second of each repetition."""
    if bench(told)[f"{kind}_tok_per_s"].value is None:
        raise DeviceError("a run of mode bench timed nothing")
    begun = [e for e in told.landmarks if e.ev == f"bench.{kind}.begin"]
    ended = [e for e in told.landmarks if e.ev == f"bench.{kind}.end"]
    pairs = itertools.islice(zip(begun, ended, strict=True), 1, None)  # the first has warmed up
    return [begin.get("n") / ((end.t - begin.t) * 1e-9) for begin, end in pairs]


FIGURES = (
    Figure("llm_decode_fidelity", "1", (0.98, 1.02), _ROUNDS, llm_decode_fidelity),
    Figure("llm_prefill_fidelity", "1", (0.98, 1.02), _ROUNDS, llm_prefill_fidelity),
    Figure("llm_observer_effect", "1", (0.98, None), 1, llm_observer_effect),
)
