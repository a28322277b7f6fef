"""Steps that are tried again while the link is away; the device goes on by itself meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from melt.errors import Interrupted, TransportError, TransportTimeout
from melt.transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from melt.device import Device

_T = TypeVar("_T")

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0
_LOOK_S = 0.25
_ANSWER_S = 15.0
_MOST_LOSSES = 20
"""A link that comes back only to be lost again, so often in one step, is of no use."""
_HOLDS_S = 300.0
"""One that held for so long is of use: then the count begins anew."""


@dataclass
class Patience:
    """Carries out steps, each from its beginning again when the link was lost and is back.

    A step may be carried out twice without harm. `lost_n` and `lost_s` tell how often and how long the link was away.
    """

    device: Device
    say: Callable[[str], None]
    cancelled: Callable[[], bool]
    lost_n: int = 0
    lost_s: float = 0.0

    def __call__(self, step: Callable[[], _T], limit_s: float) -> _T:
        """The result of the step. Raises the TransportError when the link is away for longer than `limit_s`.

        One that is not transient is raised at once, and so is every other error of the step; Interrupted.
        """
        losses, pause_s = 0, _FIRST_PAUSE_S
        while True:
            begun = time.monotonic()
            try:
                return step()
            except TransportError as error:
                began = time.monotonic()
                if began - begun > _HOLDS_S:
                    losses, pause_s = 0, _FIRST_PAUSE_S
                losses += 1
                if not error.transient or limit_s <= 0 or losses > _MOST_LOSSES:
                    raise
                try:
                    pause_s = self._until_back(error, limit_s, pause_s)
                finally:
                    self.lost_n += 1
                    self.lost_s += time.monotonic() - began

    def told(self, before: Mapping[str, float] = MappingProxyType({})) -> dict[str, float]:
        """How often and how long the link was away, added to what was told `before`, for the record's host part."""
        lost_n, lost_s = self.lost_n + before.get("link_lost_n", 0), self.lost_s + before.get("link_lost_s", 0)
        return {"link_lost_n": lost_n, "link_lost_s": round(lost_s, 3)} if lost_n else {}

    def _until_back(self, lost: TransportError, limit_s: float, pause_s: float) -> float:
        """The pause to begin with the next time: a link that is lost again at once is given more time."""
        name = self.device.name
        told = str(lost) if str(lost).startswith(f"{name}:") else f"{name}: {lost}"
        self.say(f"{told}; waiting up to {limit_s:.0f} s for it to come back")
        end = Deadline.after(limit_s)
        while True:
            self.device.close()
            self._wait(min(pause_s, end.left_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                self.device.run(["true"], min(_ANSWER_S, max(1.0, end.left_s)))
            except TransportError as error:
                if not error.transient:
                    raise
                if not end.left_s:
                    kind = TransportTimeout if isinstance(lost, TransportTimeout) else TransportError
                    raise kind(f"{lost}; it was away for {limit_s:g} s") from error
                continue
            self.say(f"{name}: the link is back")
            return pause_s

    def _wait(self, pause_s: float) -> None:
        end = Deadline.after(pause_s)
        while end.left_s:
            if self.cancelled():
                raise Interrupted(f"{self.device.name}: interrupted while the link was away")
            time.sleep(min(_LOOK_S, end.left_s))
