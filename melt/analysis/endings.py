"""How a run ended: what the events of the agent and the engine say went wrong, as reasons."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from melt.analysis import events as ev
from melt.records import Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from melt.records import Event

MEMORY_WORDS = ("memory", "oom", "alloc")


def endings(events: Sequence[Event], completed: int, oom_evidence: str | None) -> Iterator[Reason]:
    """Reasons of the end of the agent and of the engine; nothing for a run that ended well, or for no events at all.

    `completed` is the number of inferences that ended.
    """
    kill = ev.first(events, "agent.kill")
    began, agent_ended = ev.first(events, "agent.begin"), ev.first(events, "agent.end")
    if began is not None and agent_ended is None:
        yield Reason(code=ReasonCode.AGENT_KILLED, detail="the agent's last words are missing: it was killed")
    if kill is not None:
        yield _killed(events, kill)
        return
    ended = ev.engine_end(events)
    error = ev.last(events, "error")
    said = "" if error is None else f"{error.get('kind', 'error')}: {error.get('message', '')}"
    if ended is None:
        # without the agent's word on the engine only the engine's own error is known
        if error is not None:
            yield Reason(code=_code_of(error, before_first=completed == 0), detail=said)
        return
    if ended.signal is not None:
        yield _signalled(ended.signal, oom_evidence or _counted(events), said)
    elif error is not None:
        yield Reason(code=_code_of(error, before_first=completed == 0), detail=said)
    elif ended.exit not in (0, None):
        yield Reason(code=ReasonCode.CRASHED, detail=f"the engine ended with exit code {ended.exit} and said nothing")
    elif ev.last(events, "done") is None:
        yield Reason(code=ReasonCode.CRASHED, detail="the engine ended with exit code 0 before it was done")


def _killed(events: Sequence[Event], kill: Event) -> Reason:
    why = kill.get("why")
    start = ev.first_t(events, "agent.engine.start")
    after = "" if start is None else f" {(kill.t - start) * 1e-9:.3g} s after the engine started"
    if why == "wall":
        return Reason(code=ReasonCode.TIMED_OUT, detail=f"the wall limit passed{after}: the engine was ended")
    if why == "ceiling":
        where = f" ({kill.get('sensor')} at {kill.get('value')})" if kill.get("sensor") else ""
        return Reason(code=ReasonCode.CEILING, detail=f"the ceiling was reached{where}{after}: the engine was ended")
    if why == "memory":
        return Reason(
            code=ReasonCode.OUT_OF_MEMORY, detail=f"the memory limit was reached{after}: the engine was ended"
        )
    return Reason(
        code=ReasonCode.AGENT_KILLED, detail=f"the agent was told to stop{after or ' before the engine started'}"
    )


def _signalled(number: int, oom_evidence: str | None, said: str) -> Reason:
    name = signal.Signals(number).name if number in {s.value for s in signal.Signals} else f"signal {number}"
    if number == signal.SIGKILL and oom_evidence:
        return Reason(code=ReasonCode.OUT_OF_MEMORY, detail=f"killed by SIGKILL, not by melt: {oom_evidence}")
    last_words = f" ({said})" if said else ""
    return Reason(code=ReasonCode.CRASHED, detail=f"killed by {name}, not by melt{last_words}")


def _counted(events: Sequence[Event]) -> str | None:
    """The kernel's own count of out-of-memory kills over the engine's life, where the agent could read it."""
    end = ev.last(events, "agent.engine.end")
    kills = None if end is None else ev.whole(end.get("oom_kills"))
    return f"the kernel counted {kills} out-of-memory kills meanwhile" if kills and kills > 0 else None


def _code_of(error: Event, *, before_first: bool) -> ReasonCode:
    """An engine's error: memory by its kind, refused before its first inference, a crash after it."""
    if any(word in str(error.get("kind", "")).lower() for word in MEMORY_WORDS):
        return ReasonCode.OUT_OF_MEMORY
    return ReasonCode.REFUSED if before_first else ReasonCode.CRASHED
