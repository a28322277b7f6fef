"""`python -m benchmarks [NAME…]`: measures the figures and prints a line for each.

Exit code 0 whether or not a target is met (a figure says so itself: `ok`), 1 when one could not be measured, 2 for
a name that there is not.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from benchmarks import (
    agent,
    clock_bound,
    commands,
    dead_peer,
    energy_figures,
    gate_figures,
    index_figures,
    llm,
    llm_speed,
    ort,
    overhead,
    real_pairs,
    state_restored,
    statistics_figures,
    throttle_figures,
    transfer,
)
from benchmarks.harness import Figure, carry_out, choose
from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIGURES: Mapping[str, Figure] = {
    figure.name: figure
    for figure in (
        agent.CPU_SHARE,
        agent.LATE_P99,
        ort.FIDELITY,
        *overhead.RUN_OVERHEADS,
        *transfer.RATIOS,
        transfer.REPUSH,
        *commands.COMMANDS,
        dead_peer.DEAD_PEER,
        *llm.FIGURES,
        *llm_speed.FIGURES,
        *energy_figures.FIGURES,
        *throttle_figures.FIGURES,
        state_restored.STATE_RESTORED,
        clock_bound.CLOCK_BOUND,
        *statistics_figures.FIGURES,
        *gate_figures.FIGURES,
        *index_figures.FIGURES,
        *real_pairs.FIGURES,
    )
}
_TESTS = Path(__file__).parents[1] / "tests"


def main(
    argv: Sequence[str], figures: Mapping[str, Figure] = FIGURES, out: TextIO = sys.stdout, err: TextIO = sys.stderr
) -> int:
    """Measures the figures that `argv` names, or all, prints their lines on `out`, and gives the exit code."""

    def tell(sentence: str) -> None:
        print(sentence, file=err, flush=True)

    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure the figures that melt is held to.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(figures)}")
    try:
        chosen = choose(figures, " ".join(parser.parse_args(argv).names).split())
    except UsageError as error:
        tell(str(error))
        return UsageError.exit_code
    tell(f"load over the last minute: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; an idle machine is assumed")
    results = carry_out(chosen, tell)
    for result in results:
        print(result.line(), file=out, flush=True)
    return int(any(result.failure is not None for result in results))


if __name__ == "__main__":
    # the servers that the transports are measured on are those of the tests
    sys.path += [str(_TESTS), str(_TESTS / "transport")]
    sys.exit(main(sys.argv[1:]))
