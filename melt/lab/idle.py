"""The idle power of a block: measured by its first run that takes place, and taken off all of its runs' energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.records import ReasonCode

if TYPE_CHECKING:
    from melt.records import IdlePower, RunRecord

_OTHER_STATE = frozenset(
    {
        *(ReasonCode.PIN, ReasonCode.SUSPENDED, ReasonCode.REBOOTED, ReasonCode.CLOCK_BOUND),
        *(ReasonCode.CHARGER, ReasonCode.UNDER_VOLTAGE),
    }
)
"""What makes the idle power of a run one of another state than that of its block."""


class IdleOfBlocks:
    """What the runs of one device have found out of its idle power so far, by block."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._found: dict[int, IdlePower] = {}
        self._tried: set[int] = set()

    def note(self, record: RunRecord) -> None:
        """Takes in a run of the session, of whichever device."""
        if record.device != self._device or record.status == "skipped":
            return
        self._tried.add(record.block)
        found = record.energy.idle
        own = found is not None and found.run_id == record.run_id
        if found is not None and own and not {reason.code for reason in record.reasons} & _OTHER_STATE:
            self._found[record.block] = found

    def of(self, block: int) -> IdlePower | None:
        """The idle power that a run of the block has measured in the block's own state."""
        return self._found.get(block)

    def is_open(self, block: int) -> bool:
        """Whether no run of the block has taken place yet, so that the next one begins with the idle window."""
        return block not in self._tried
