"""The pictures of a report, where matplotlib is installed: PNG to look at, PDF to print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.report.select import Selection

HOW_TO_GET = "There are no pictures here: they need matplotlib, pip install 'melt[report]'."


@dataclass(frozen=True)
class Pictures:
    """`files` by name, PNG and PDF of each page; `notes` say what is not drawn and why."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> list[str]:
        return [name for name in self.files if name.endswith(".png")]

    @staticmethod
    def alt(name: str) -> str:
        """What the picture shows, for those who do not see it."""
        if name.startswith("latency"):
            return "Latency of one inference or of one token: the median of each cell, and the distribution of each run"
        if name.startswith("roofline"):
            return "What the device can do at most, and where decode and prefill of each model stand below it"
        return "One run over time: latency, and what the device's sensors said"


def draw(selection: Selection, title: str) -> Pictures:
    """Every picture that the runs allow; none, and a note how to get them, where matplotlib is not installed."""
    try:
        # here and not above: an optional extra, and the half second of its import is for reports alone
        from melt.report.latency_picture import latency_pages  # noqa: PLC0415
        from melt.report.roofline_picture import roofline_pages  # noqa: PLC0415
        from melt.report.trace_picture import trace_pages  # noqa: PLC0415
    except ImportError:
        return Pictures(notes=(HOW_TO_GET,))
    files: dict[str, bytes] = {}
    notes: list[str] = []
    drawings = {"latency": latency_pages, "roofline": roofline_pages, "trace": trace_pages}
    for stem, pages in ((stem, drawing(selection, title)) for stem, drawing in drawings.items()):
        for number, (png, pdf) in enumerate(pages.pages, 1):
            name = stem if number == 1 else f"{stem}-{number}"
            files |= {f"{name}.png": png, f"{name}.pdf": pdf}
        notes += pages.notes
    return Pictures(files, tuple(notes))
