"""The conversations of an iteration of the 2024 study, from the files that its scripts and apps left of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from melt.importers.study_files import Counted, conversations, read_small, spans, stamps, timings, told_by_mlc
from melt.importers.study_transcript import NO_REPORT, by_prompt, engine_of
from melt.importers.study_turns import NO_STAMPS, Talk, load_of, of_app, of_llama

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from melt.importers.study_files import Question
    from melt.importers.study_layout import Iteration
    from melt.importers.study_transcript import Told


def talks_of(iteration: Iteration, problems: list[str]) -> tuple[list[Talk], str | None]:
    """The conversations, and what their files call the model; what cannot be read is added to `problems`."""
    if iteration.summary is not None:
        try:
            return _of_summary(iteration, iteration.summary, problems)
        except (OSError, ValueError) as error:
            problems.append(f"{iteration.summary.name}: {error}")
            return [], None
    found = [_of_host(n, files, problems) for n, files in iteration.conversations.items() if "csv" in files]
    return _on_one_clock([talk for talk in found if talk is not None], iteration, problems), None


def _on_one_clock(talks: list[Talk], iteration: Iteration, problems: list[str]) -> list[Talk]:
    """Without those on the host's clock, where others are on the device's: only a Jetson is its own host."""
    own = [talk for talk in talks if [turn.span for turn in talk.turns] != list(talk.host)]
    if iteration.log is not None or not own:
        return talks
    problems += [
        f"iteration {iteration.number}: conversation {talk.number} has no events of the engine, and the host's clock is"
        " not the others': left out"
        for talk in talks
        if talk not in own
    ]
    return own


def _of_host(number_: int, files: Mapping[str, Path], problems: list[str]) -> Talk | None:
    """A conversation that a script on the host drove: rows of the host, events and output of the engine."""
    text = text_of(files.get("csv"), problems)
    rows, wrong = spans(text or "")
    problems += [f"{files['csv'].name}: {why}" for why in wrong]
    prompts = [row for row in rows if row.state != "load_model"]
    if not prompts:
        return None
    output = text_of(files.get("txt"), problems)
    events = _events(files.get("tsv"), problems)
    no_output = "not_told: the folder has no output of the engine for this conversation"
    told: list[Told] = by_prompt(output, [row.state for row in prompts]) if output else [no_output] * len(prompts)
    if wrong:  # which prompt of the events a lost row was cannot be told
        events = {name: at for name, at in events.items() if not name.startswith(("prompt.", "generate."))}
    turns = of_llama(number_, prompts, told, events)
    if output and engine_of(output) == "mlc-llm":
        turns = [replace(turn, why=turn.why or NO_STAMPS) for turn in turns]
    slept = next((row for row in rows if row.state == "load_model"), None)
    load = load_of(events)
    why = "" if load else "fixed_sleep: the load is told only together with a sleep of 5 s, which may be longer than it"
    return Talk(number_, tuple(turns), load, why, slept.seconds if slept else None, tuple(prompts))


def _of_summary(iteration: Iteration, file: Path, problems: list[str]) -> tuple[list[Talk], str | None]:
    """The conversations of an app's JSON, with the events and timings beside it."""
    read = conversations(read_small(file))
    talks: list[Talk] = []
    for number_, one in enumerate(read):
        files = iteration.conversations.get(number_, {})
        events = _events(files.get("csv"), problems)
        problems += [
            f"{file.name}: conversation {number_}, prompt {at}: its start and duration are no window: left out"
            for at in one.left_out
        ]
        rows = timings(text_of(files["timing"], problems) or "") if "timing" in files else None
        told = [_told(question, rows, len(one.questions)) for question in one.questions]
        if rows is not None and len(rows) == len(one.questions):
            told = [row if row.prompt_tokens else NO_REPORT for row in rows]
        if one.left_out:  # the events count all prompts
            events = {name: at for name, at in events.items() if not name.startswith(("prefill.", "generate."))}
        turns = of_app(number_, one.questions, told, events)
        talks.append(Talk(number_, tuple(turns), load_of(events) or one.load))
    return talks, next((one.model for one in read if one.model), None)


def _told(question: Question, rows: Sequence[Counted] | None, asked: int) -> Told:
    """What the app's JSON says of a prompt; rows of another number than the prompts cannot be matched."""
    if rows is not None:
        return f"not_told: the table of timings has {len(rows)} rows and the conversation {asked} prompts"
    said = told_by_mlc(question.said) if question.said else None
    return said or Counted(question.prompt_tokens, None, question.output_tokens, None)


def _events(file: Path | None, problems: list[str]) -> dict[str, int]:
    text = text_of(file, problems)
    if text is None or file is None:
        return {}
    found, wrong = stamps(text)
    problems += [f"{file.name}: {why}" for why in wrong[:5]]
    return found


def text_of(file: Path | None, problems: list[str]) -> str | None:
    """The text of a small file; None where there is none, or it cannot be read, which is a problem then."""
    if file is None:
        return None
    try:
        return read_small(file)
    except (OSError, ValueError) as error:
        problems.append(f"{file.name}: {error}")
        return None
