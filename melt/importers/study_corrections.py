"""The known mistakes of the 2024 study, each with the number that it published and the one that melt has instead.

A correction begins with its code: `energy_zero`, `energy_recomputed`, `trace_shifted`, `energy_per_token`,
`total_rails`, `timing_matched`, `load_sleep`, `values_kept`, `max_length`.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from melt.importers.study_files import number, read_small, table
from melt.importers.study_layout import LENGTH_MEANS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from melt.importers.study_files import Span
    from melt.importers.study_layout import About
    from melt.importers.study_run import Read
    from melt.importers.study_turns import Turn

TABLE = "results_model_inference_measurements.csv"
"""What the study's own program computed of a set."""
_J_PER_MWH = 3.6
_STUDY_TOTALS = (("VDD_GPU_SOC", "VDD_CPU_CV"), ("VDD_CPU_GPU_CV", "VDD_SOC"))
"""The rails that the study's notebook adds up, of an AGX Orin and of an Orin Nano."""
_WHOLE_TOTALS = (("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), ("VDD_IN",))
_APART = 0.01
"""Rates further apart than this are not of the same prompt."""


def corrections(folder: Path, iteration: int, about: About, read: Read) -> tuple[str, ...]:
    """Every known mistake that touches this run, put right."""
    rows = [row for row in _rows(folder / TABLE) if number(row.get("iteration")) == iteration]
    found = [
        *_energies(rows, read),
        *_totals(read),
        *_shifted(read),
        *_per_token(rows, read),
        *_matched(rows, read),
        *_loads(read),
        *_lengths(about),
    ]
    turns = sum(len(talk.turns) for talk in read.talks)
    found.append(f"values_kept: all {turns} prompts count; the study's plots leave out values beyond 5 % and 95 %")
    return tuple(found)


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        return table(read_small(file)) if file.is_file() else []
    except (OSError, ValueError):
        return []


def _windows(read: Read) -> list[Span]:
    """The prompts' windows on the clock of the power trace, as the study cut it."""
    return [span for talk in read.talks for span in (talk.host or [turn.span for turn in talk.turns])]


def spent_mwh(read: Read, rail: str) -> float | None:
    """What a rail drew over the prompts together; None where its log does not cover one of them."""
    track = read.power.logged.rails.get(rail)
    if track is None:
        return None
    means = [(track.mean_w(span.begin, span.end), span.seconds) for span in _windows(read)]
    known = [(mean, seconds) for mean, seconds in means if mean is not None]
    return sum(mean * seconds for mean, seconds in known) / _J_PER_MWH if len(known) == len(means) else None


def _energies(rows: Sequence[Mapping[str, str]], read: Read) -> Iterator[str]:
    for rail in sorted(read.power.logged.rails):
        if rail == "monsoon":
            continue
        ours, theirs = spent_mwh(read, rail), _table_mwh(rows, f"energy_pt {rail} (mWh)")
        if ours is None or ours <= 0:
            continue
        if theirs == 0:
            yield (
                f"energy_zero: the study's table has 0 mWh for {rail} over the prompts, for its rows were filtered"
                f" until none had a voltage; by its own lines, on one clock, it is {ours:.2f} mWh"
            )
        elif theirs is not None:
            yield (
                f"energy_recomputed: {rail} over the prompts: {theirs:.2f} mWh in the study's table,"
                f" {ours:.2f} mWh by its own lines"
            )
        else:
            yield f"energy_recomputed: {rail} over the prompts: {ours:.2f} mWh by its own lines, on one clock"


def _table_mwh(rows: Sequence[Mapping[str, str]], column: str) -> float | None:
    """The energy of all prompts by the study's table, which holds it by output token."""
    parts = [(number(row.get(column)), number(row.get("output_tokens"))) for row in rows]
    known = [each * tokens for each, tokens in parts if each is not None and tokens is not None]
    return sum(known) if known else None


def _totals(read: Read) -> Iterator[str]:
    rule = read.power.rule
    for study, whole in zip(_STUDY_TOTALS, _WHOLE_TOTALS, strict=True):
        parts = [spent_mwh(read, rail) for rail in study]
        wholes = [spent_mwh(read, rail) for rail in whole]
        if rule is None or any(part is None for part in parts):
            continue
        theirs = sum(part or 0 for part in parts)
        if any(one is None for one in wholes):
            left = ", ".join(rule.excludes) or "nothing"
            yield f"total_rails: {' + '.join(study)} drew {theirs:.2f} mWh over the prompts; {left} is not in the log"
        else:
            ours = sum(one or 0 for one in wholes)
            yield (
                f"total_rails: the study's total is {' + '.join(study)}, {theirs:.2f} mWh over the prompts, without the"
                f" memory; the module, {' + '.join(whole)}, drew {ours:.2f} mWh"
            )


def _shifted(read: Read) -> Iterator[str]:
    logged = read.power.logged
    if "monsoon" in logged.rails and logged.shift_s:
        yield (
            f"trace_shifted: the study stamped the power trace {logged.shift_s:.3f} s late, for it added the time that"
            f" the meter took to calibrate itself once more; here its first sample is taken at .t_monsoon, to"
            f" {logged.bound_s:.3g} s"
        )


def _per_token(rows: Sequence[Mapping[str, str]], read: Read) -> Iterator[str]:
    columns = [f"energy_pt {rail} (mWh)" for rail in read.power.logged.rails if rail != "monsoon"]
    whole = "energy_pt (mWh)"
    theirs = _table_mwh(rows, whole)
    if theirs is None:
        study = next((s for s in _STUDY_TOTALS if all(f"energy_pt {rail} (mWh)" in columns for rail in s)), ())
        sums = [_table_mwh(rows, f"energy_pt {rail} (mWh)") for rail in study]
        theirs = sum(s for s in sums if s is not None) if sums and any(s is not None for s in sums) else None
    tokens = sum(number(row.get("output_tokens")) or 0 for row in rows)
    if theirs is None or tokens <= 0:
        return
    ours = read.figures.get("j_per_token")
    if ours is not None and ours.value is not None:
        said = f"decoding alone takes {ours.value / _J_PER_MWH:.4g} mWh a token (j_per_token)"
    else:
        said = f"j_per_token is a gap: {ours.reason if ours else 'no stamps of tokens'}"
    yield (
        f"energy_per_token: {theirs / tokens:.4g} mWh in the study's table is a whole prompt's energy by its output"
        f" tokens, prefill and idle power in it; {said}"
    )


def _matched(rows: Sequence[Mapping[str, str]], read: Read) -> Iterator[str]:
    turns = [turn for talk in read.talks for turn in talk.turns]
    lost = [turn for turn in turns if turn.told is None]
    if not lost:
        return
    wrong = [pair for turn in turns if (pair := _other(rows, turn)) is not None]
    names = ", ".join(f"{turn.conversation}/{turn.index}" for turn in lost[:5])
    said = (
        f"timing_matched: the engine's reports of {len(lost)} of {len(turns)} prompts are missing"
        f" (conversation/prompt {names}) and are gaps; the others are matched by what stands beside them"
    )
    if wrong:
        at, theirs, ours = wrong[0]
        said += (
            f"; {len(wrong)} rows of the study's table carry another prompt's rate, as {at}:"
            f" {theirs:.4g} tok/s in the table, {ours:.4g} by its own report"
        )
    yield said


def _other(rows: Sequence[Mapping[str, str]], turn: Turn) -> tuple[str, float, float] | None:
    """Where the table has another rate for a prompt than its own report: which prompt, the table's, its own."""
    if turn.told is None or not turn.told.decoded or not turn.told.decode_s:
        return None
    key = (turn.conversation, turn.index)
    row = next((r for r in rows if (number(r.get("conversation")), number(r.get("prompt"))) == key), None)
    theirs = number(row.get("tps")) if row else None
    ours = turn.told.decoded / turn.told.decode_s
    if theirs is None or abs(theirs - ours) <= _APART * ours:
        return None
    return f"{key[0]}/{key[1]}", theirs, ours


def _loads(read: Read) -> Iterator[str]:
    slept = [talk.slept_load_s for talk in read.talks if talk.slept_load_s is not None]
    if not slept:
        return
    told = [talk.load.seconds for talk in read.talks if talk.load is not None]
    ours = f"the engine's own stamps say {told[0]:.3f} s" if told else "without stamps of the engine it is a gap"
    yield (
        f"load_sleep: {statistics.median(slept):.3f} s of load in the study's file hold a fixed sleep of 5 s; {ours}"
    )


def _lengths(about: About) -> Iterator[str]:
    means = LENGTH_MEANS.get(about.app or "")
    if means is not None:
        length = about.settings.get("max_gen_len")
        known = isinstance(length, int) and not isinstance(length, bool) and 0 < length < 1 << 32
        told = f"the largest length of {length}" if known else "the largest length"
        yield f"max_length: {told} counts {means} in {about.app}: a hard key of the fingerprint says so"
