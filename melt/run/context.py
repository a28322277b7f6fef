"""What the runs of one cell on one device share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from melt.run.beside import Beside

if TYPE_CHECKING:
    from collections.abc import Callable

    from melt.device import Device, Moved
    from melt.engines import Engine, Prepared
    from melt.errors import Unsupported
    from melt.records import IdlePower
    from melt.store import CellRecord, Session


@dataclass(frozen=True)
class Context:
    """All that the runs of one cell share.

    `say` is told what a person should know, `on_step` what is going on, `on_moved` how far a delivery has come.
    """

    session: Session
    device: Device
    engine: Engine
    prepared: Prepared | Unsupported
    """What goes to the device, or why this cell cannot run there."""
    cell: CellRecord
    say: Callable[[str], None] = lambda _: None
    on_step: Callable[[str], None] = lambda _: None
    on_moved: Callable[[Moved], None] = lambda _: None
    cancelled: Callable[[], bool] = lambda: False
    idle: IdlePower | None = None
    """The idle power of the device that an earlier run of this block has measured."""
    beside: Beside = field(default_factory=Beside)
    """The meter and the switch that the lab file names for the device."""
    verify: bool = False
    """Whether what lies on the device is read again before it is used."""
    tried: set[tuple[str, ...]] = field(default_factory=set)
    """The engine's trials that have gone well on this device."""

    @property
    def settings(self) -> dict[str, Any]:
        return {key: resolved.value for key, resolved in self.cell.resolved.items()}
