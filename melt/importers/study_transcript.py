"""What an engine printed beside its answers, matched to the prompts by what stands between two of them.

The study counted timing lines from the end of the file, so that one lost line gave every prompt the figures of another.
Here a report belongs to the prompt whose echo stands before it. One that is missing leaves a gap there, and moves none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melt.importers.study_files import Counted, told_by_mlc

if TYPE_CHECKING:
    from collections.abc import Sequence

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_TIMING = re.compile(
    r"llama_print_timings:\s*(load|sample|prompt eval|eval|total) time\s*=\s*([0-9.]+) ms(?:\s*/\s*(\d+)\s+\w+)?"
)
_HEAD = 24
"""So many letters of a prompt tell it from the others; a terminal may have broken the line after them."""
_STATS_LINES = 40
NO_ECHO = "not_told: the engine's output does not show the prompt, so none of its reports can be told to be this one's"
NO_REPORT = "not_told: the engine's output has no report of timings between this prompt and the next"
CUT_REPORT = "not_told: the report of timings of this prompt lacks a line"
MORE_REPORTS = "not_told: more than one report of timings stands between this prompt and the next"

Told = Counted | str
"""What an engine said of a prompt, or the reason why that is not known."""
_Report = tuple[int, Told]
"""The line that it stands at, and what it says."""


def engine_of(text: str) -> str | None:
    """Which engine wrote a transcript, by its reports."""
    if _TIMING.search(text):
        return "llama.cpp"
    return "mlc-llm" if "/stats" in text else None


def by_prompt(text: str, prompts: Sequence[str]) -> list[Told]:
    """What the engine said of each prompt, in their order."""
    lines = [_ESCAPE.sub("", line) for line in text.splitlines()]
    reports = _of_llama(lines) if engine_of(text) == "llama.cpp" else _of_mlc(lines)
    return _matched(reports, _echoes(lines, prompts))


def _echoes(lines: Sequence[str], prompts: Sequence[str]) -> list[int | None]:
    """The line where each prompt is echoed, each after the one before; None where it is not."""
    squeezed = ["".join(line.split()) for line in lines]
    found: list[int | None] = []
    after = 0
    for prompt in prompts:
        head = "".join(prompt.split())[:_HEAD]
        here = next((at for at in range(after, len(squeezed)) if head and head in squeezed[at]), None)
        found.append(here)
        after = after if here is None else here + 1
    return found


def _matched(reports: Sequence[_Report], echoes: Sequence[int | None]) -> list[Told]:
    found: list[Told] = []
    for at, echo in enumerate(echoes):
        following = echoes[at + 1] if at + 1 < len(echoes) else None
        if echo is None or (following is None and at + 1 < len(echoes)):
            found.append(NO_ECHO)
            continue
        own = [told for line, told in reports if line > echo and (following is None or line < following)]
        found.append(own[0] if len(own) == 1 else (MORE_REPORTS if own else NO_REPORT))
    return found


def _of_llama(lines: Sequence[str]) -> list[_Report]:
    """llama.cpp's reports; the empty one that it prints as it ends, right after another, is none."""
    groups: list[tuple[int, dict[str, tuple[float, int | None]]]] = []
    for at, line in enumerate(lines):
        match = _TIMING.search(line)
        if match is None:
            continue
        name = match[1]
        if not groups or name in groups[-1][1] or "total" in groups[-1][1]:
            groups.append((at, {}))
        try:
            groups[-1][1][name] = (float(match[2]) * 1e-3, int(match[3]) if match[3] else None)
        except ValueError:
            continue
    return [(at, _counted(said)) for at, said in groups if not _empty(said)]


def _empty(said: dict[str, tuple[float, int | None]]) -> bool:
    names = ("prompt eval", "eval")
    return all(name in said and said[name][0] == 0 for name in names)


def _counted(said: dict[str, tuple[float, int | None]]) -> Told:
    prompt, answer = said.get("prompt eval"), said.get("eval")
    if prompt is None or answer is None or prompt[1] is None or answer[1] is None:
        return CUT_REPORT
    # a phase that did not take place is printed as one token in no time
    return Counted(prompt[1], prompt[0] or None, answer[1] if answer[0] else 0, answer[0] or None)


def _of_mlc(lines: Sequence[str]) -> list[_Report]:
    """MLC's statistics, asked for after each answer; those before the first prompt say nothing, and match none."""
    found: list[_Report] = []
    for at, line in enumerate(lines):
        if "/stats" not in line:
            continue
        text, depth = "", 0
        for part in lines[at + 1 : at + 1 + _STATS_LINES]:
            if not text and "{" not in part:
                continue
            text += part[part.index("{") :] if not text else part
            depth = text.count("{") - text.count("}")
            if depth <= 0:
                break
        told = told_by_mlc(text) if text and depth == 0 else None
        found.append((at, told if told is not None else CUT_REPORT))
    return found
