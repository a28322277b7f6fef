"""The prompts of a conversation as stamps: when each was evaluated, when each token came, and what is not told.

llama.cpp's events are numbered by the passes of its loop. In the pass that reads a prompt (`prompt.N.tokenize`)
nothing of it is evaluated; the one after may evaluate the last answer's end; then come the prompt, in as many
evaluations as its size needs, and one for each token. The engine's count of single evaluations tells how many are the
prompt's.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from melt.importers.study_files import Counted, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from melt.importers.study_files import Question
    from melt.importers.study_transcript import Told

_PROMPT = re.compile(r"prompt\.(\d{1,12})\.tokenize\.start")
_PASS = re.compile(r"generate\.(\d{1,12})\.decode\.(start|end)")
_DECODE = re.compile(r"generate\.decode\.(\d{1,12})\.end")
_BEFORE_PROMPT = 2
"""How many passes after the one that read a prompt its evaluation begins."""
NO_STAMPS = "not_told: the folder has no stamps of tokens for this engine"


@dataclass(frozen=True)
class Turn:
    """A prompt and its answer on one clock (ns): stamps as far as they are told, and `why` where they are not."""

    span: Span
    conversation: int
    index: int
    told: Counted | None = None
    prefill: tuple[int, int] | None = None
    tokens: tuple[int, ...] = ()
    why: str = ""

    @property
    def stamped(self) -> bool:
        """Whether its stamps can be given to the analysis: the prompt's size and window are known."""
        return self.told is not None and self.told.prompt_tokens is not None and self.prefill is not None


@dataclass(frozen=True)
class Talk:
    """A conversation: its load and its turns. `load_why` says why the load has no window."""

    number: int
    turns: tuple[Turn, ...]
    load: Span | None = None
    load_why: str = ""
    slept_load_s: float | None = None
    """The load as the study published it, with its fixed sleep."""
    host: tuple[Span, ...] = field(default=())
    """The prompts' windows on the host's clock, where that is another one than the turns'."""


def of_llama(number: int, prompts: Sequence[Span], told: Sequence[Told], events: Mapping[str, int]) -> list[Turn]:
    """llama.cpp's turns, the host's windows where it gave no events, else on the clock of the events."""
    read = sorted((int(m[1]), at) for name, at in events.items() if (m := _PROMPT.fullmatch(name)))
    if len(read) != len(prompts):
        why = (
            NO_STAMPS
            if not events
            else f"not_told: {len(read)} prompts are among the engine's events, and {len(prompts)} were asked"
        )
        return [
            Turn(span, number, i, said if isinstance(said, Counted) else None, why=_why(said, why))
            for i, (span, said) in enumerate(zip(prompts, told, strict=True))
        ]
    passes = _passes(events)
    found = []
    for i, (span, said) in enumerate(zip(prompts, told, strict=True)):
        begin, read_at = read[i]
        end = read[i + 1][0] if i + 1 < len(read) else max(passes, default=begin)
        own = [passes[at] for at in range(begin + _BEFORE_PROMPT, end + 1) if at in passes]
        found.append(_turn(Turn(span, number, i), read_at, own, said, carried=begin + 1 in passes))
    return found


def _turn(turn: Turn, read_at: int, own: Sequence[tuple[int, int]], said: Told, *, carried: bool) -> Turn:
    """The turn of a prompt read at `read_at` with its evaluations; `carried`: one of the answer before came first."""
    last = max((end for _, end in own), default=read_at + 1)
    window = Span(read_at, last, turn.span.state)
    if isinstance(said, str):
        return Turn(window, turn.conversation, turn.index, why=said)
    single = (said.decoded or 0) - int(carried)
    of_prompt = len(own) - max(single, 0)
    if said.decoded is None or of_prompt < 1 or single < 0:
        why = (
            f"not_told: the engine counts {said.decoded} evaluations of one token here and its events hold {len(own)}"
            " in all: its report covers more than this prompt"
        )
        return Turn(window, turn.conversation, turn.index, why=why)
    prefill = (own[0][0], own[of_prompt - 1][1])
    tokens = (prefill[1], *(end for _, end in own[of_prompt:]))
    return Turn(window, turn.conversation, turn.index, said, prefill, tokens)


def of_app(number: int, questions: Sequence[Question], told: Sequence[Told], events: Mapping[str, int]) -> list[Turn]:
    """The turns of an app on a phone, all on the phone's clock.

    MLC names a prefill by the prompt's number and decodings by their own; LLMFarm names each sampling of a token.
    """
    decoded = sorted(at for name, at in events.items() if _DECODE.fullmatch(name))
    sampled = sorted(at for name, at in events.items() if "llm_sample" in name and name.endswith("end"))
    begun = sorted(at for name, at in events.items() if "llm_sample" in name and name.endswith("start"))
    found = []
    for i, (question, said) in enumerate(zip(questions, told, strict=True)):
        span = question.span
        counted = said if isinstance(said, Counted) else None
        prefill = _pair(events, f"prefill.{i}")
        tokens: tuple[int, ...] = ()
        if prefill is not None:
            tokens = (prefill[1], *(at for at in decoded if prefill[1] < at <= span.end))
        elif sampled:
            start = events.get(f"generate.{i}.start")
            first = next((at for at in begun if start is not None and start < at <= span.end), None)
            if start is not None and first is not None:
                prefill = (start, first)
                tokens = tuple(at for at in sampled if first <= at <= span.end)
        why = "" if prefill is not None else _why(said, NO_STAMPS)
        if counted is None or counted.prompt_tokens is None:
            why = said if isinstance(said, str) else "not_told: the size of the prompt in tokens is not told"
        found.append(Turn(span, number, i, counted, prefill, tokens, why))
    return found


def load_of(events: Mapping[str, int]) -> Span | None:
    """The engine's own window of loading the model, without what was waited around it."""
    for name in ("load_model", "reload.0"):
        window = _pair(events, name)
        if window is not None:
            return Span(*window, "load_model")
    return None


@dataclass(frozen=True)
class Offset:
    """How far one clock is ahead of another (s), and to how much that is known."""

    s: float
    bound_s: float


def offset(inner: Iterable[tuple[int, int]], outer: Iterable[tuple[int, int]]) -> Offset | None:
    """What must be added to the stamps (ns) of `inner` windows so that each lies inside its `outer` one.

    What happened between two stamps of the other clock bounds where it was on it: no more is known, and no less. None
    where no offset fits all of them.
    """
    pairs = list(zip(inner, outer, strict=True))
    if not pairs:
        return None
    least = max(out[0] - own[0] for own, out in pairs)
    most = min(out[1] - own[1] for own, out in pairs)
    if least > most:
        return None
    return Offset((least + most) / 2e9, (most - least) / 2e9)


def lines(talks: Sequence[Talk], base: int) -> bytes:
    """The run's events as lines of events.jsonl: stamps (ns) from `base` on."""
    return b"".join(json.dumps(event).encode() + b"\n" for event in _events(talks, base))


def _events(talks: Sequence[Talk], base: int) -> Iterator[dict[str, Any]]:
    turns = [turn for talk in talks for turn in talk.turns]
    loads = [talk.load for talk in talks if talk.load is not None]
    if loads:
        yield {"t": loads[0].begin - base, "ev": "load.begin"}
        yield {"t": loads[0].end - base, "ev": "load.end"}
    if not turns:
        return
    # a clock that was set between two conversations must not end the measured window before they end
    begin, end = min(turn.span.begin for turn in turns), max(turn.span.end for turn in turns)
    yield {"t": begin - base, "ev": "mark", "name": "measure.begin"}
    for i, turn in enumerate(turns):
        yield {"t": turn.span.begin - base, "ev": "step.begin", "i": i, "turn": turn.index}
        yield from _stamps(turn, base)
        yield {"t": turn.span.end - base, "ev": "step.end", "i": i, "turn": turn.index}
    yield {"t": end - base, "ev": "mark", "name": "measure.end"}
    yield {"t": end - base, "ev": "done"}


def _stamps(turn: Turn, base: int) -> Iterator[dict[str, Any]]:
    # a turn without the size of its prompt has no request, and its tokens would be taken for those of the one before
    if turn.prefill is None or turn.told is None or turn.told.prompt_tokens is None:
        return
    yield {"t": turn.prefill[0] - base, "ev": "prefill.begin", "n": turn.told.prompt_tokens}
    yield {"t": turn.prefill[1] - base, "ev": "prefill.end"}
    for at in turn.tokens:
        yield {"t": at - base, "ev": "token"}


def _passes(events: Mapping[str, int]) -> dict[int, tuple[int, int]]:
    """The evaluations of llama.cpp's loop by the number of their pass; one without both ends was none."""
    ends: dict[int, dict[str, int]] = {}
    for name, at in events.items():
        match = _PASS.fullmatch(name)
        if match is not None:
            ends.setdefault(int(match[1]), {})[match[2]] = at
    return {n: (w["start"], w["end"]) for n, w in sorted(ends.items()) if len(w) == 2 and w["start"] < w["end"]}  # noqa: PLR2004


def _pair(events: Mapping[str, int], name: str) -> tuple[int, int] | None:
    begin, end = events.get(f"{name}.start"), events.get(f"{name}.end")
    return (begin, end) if begin is not None and end is not None and begin < end else None


def _why(said: Told, other: str) -> str:
    return said if isinstance(said, str) else other
