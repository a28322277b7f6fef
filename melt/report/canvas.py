"""Drawing without matplotlib's global state: a figure placed in inches, text that is measured before it is drawn."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FuncFormatter, MaxNLocator

from melt.report.escape import one_line
from melt.report.numbers import significant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg

DPI = 160
INK, GREY, FAINT, RULE = "#1b1f24", "#5f6b78", "#98a2ad", "#d9dee3"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b5b95", "#7a7a7a")
"""Okabe and Ito's, which colour-blind people tell apart, and two more; blue first."""
FONT = "DejaVu Sans"
_SWATCH, _LEAST, _MORE = 0.15, 0.45, 0.5
_PALE = 0.7
"""Colours without a channel darker than this need an edge on white."""
_STYLE = {
    "font.family": FONT,
    "font.size": 8.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e9ecef",
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": GREY,
    "ytick.labelcolor": GREY,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "pdf.fonttype": 42,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Pages:
    """PNG and PDF of each page, and what was left out."""

    pages: tuple[tuple[bytes, bytes], ...] = ()
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def style() -> Iterator[None]:
    """melt's look, whatever the person's matplotlibrc says; everything is put back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast("Any", _STYLE))
        yield


class Page:
    """A figure whose places are inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(self.figure)
        self._renderer: RendererAgg = cast("RendererAgg", cast("Any", self._canvas).get_renderer())

    def axes(self, left: float, top: float, width: float, height: float, **kwargs: Any) -> Axes:
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box, **kwargs)

    def text(
        self,
        left: float,
        top: float,
        text: str,
        *,
        size: float = 8.5,
        bold: bool = False,
        color: str = INK,
        most: float | None = None,
        right: bool = False,
    ) -> float:
        """Writes a line whose middle is at `top`, cut to `most` inches; its width in inches."""
        shown = drawable(text) if most is None else self.fit(text, most, size, bold=bold)
        self.figure.text(
            left / self.width,
            1 - top / self.height,
            shown,
            fontsize=size,
            fontweight="bold" if bold else "normal",
            color=color,
            ha="right" if right else "left",
            va="center_baseline",
        )
        return self.measure(shown, size, bold=bold)

    def rule(self, top: float, left: float, right: float) -> None:
        height = 1 - top / self.height
        # a line of the figure and not of an axes; add_artist clips nothing
        self.figure.add_artist(
            mpl.lines.Line2D((left / self.width, right / self.width), (height, height), color=RULE, lw=0.8)
        )

    def swatch(self, left: float, top: float, color: str, *, edge: str | None = None) -> float:
        """A small square whose middle is at `top`; its width with the space behind it."""
        side = _SWATCH - 0.06
        self.figure.add_artist(
            mpl.patches.Rectangle(
                (left / self.width, 1 - (top + side / 2) / self.height),
                side / self.width,
                side / self.height,
                facecolor=color,
                edgecolor=edge or color,
                lw=0.6,
                transform=self.figure.transFigure,
            )
        )
        return _SWATCH

    def legend(self, left: float, top: float, items: Sequence[tuple[str, str]], most: float, size: float = 7.5) -> None:
        """Coloured squares with words, one after another, as many as `most` inches hold."""
        at = left
        for index, (color, words) in enumerate(items):
            # the last one may be cut; before that, room is kept for saying how many more there are
            room = left + most - at - _SWATCH - (0.0 if index == len(items) - 1 else _MORE)
            if room < _LEAST or (index and self.measure(drawable(words), size) > room < 2 * _LEAST):
                self.text(at, top, f"+{len(items) - index} more", size=size, color=GREY)
                return
            at += self.swatch(at, top, color, edge=FAINT if min(mpl.colors.to_rgb(color)) > _PALE else None)
            at += self.text(at, top, words, size=size, color=GREY, most=room) + 0.14

    def measure(self, text: str, size: float, *, bold: bool = False) -> float:
        """The width of a line in inches."""
        font = FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")
        width, _, _ = cast("Any", self._renderer).get_text_width_height_descent(text, font, ismath=False)
        return float(width) / DPI

    def fit(self, text: str, most: float, size: float, *, bold: bool = False) -> str:
        """The text, cut with an ellipsis where it is wider than `most` inches."""
        whole = drawable(text)
        if self.measure(whole, size, bold=bold) <= most:
            return whole
        low, high = 0, len(whole)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.measure(f"{whole[:middle]}…", size, bold=bold) <= most
            low, high = (middle, high) if fits else (low, middle - 1)
        return f"{whole[:low].rstrip()}…"

    def wrap(self, text: str, most: float, size: float, lines: int) -> list[str]:
        """The text in at most `lines` lines of `most` inches; the last one is cut."""
        words, out = drawable(text).split(" "), [""]
        for index, word in enumerate(words):
            longer = f"{out[-1]} {word}".strip()
            if self.measure(longer, size) <= most or not out[-1]:
                out[-1] = longer
            elif len(out) < lines:
                out.append(word)
            else:
                out[-1] = " ".join((out[-1], *words[index:]))
                break
        return [self.fit(line, most, size) for line in out]

    def saved(self) -> tuple[bytes, bytes]:
        """PNG and PDF; the same drawing gives the same bytes."""
        return self._as("png", {"Software": None}), self._as("pdf", {"CreationDate": None, "Creator": "melt"})

    def _as(self, kind: str, metadata: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        self._canvas.print_figure(out, format=kind, dpi=DPI, metadata=metadata, facecolor="white")
        return out.getvalue()


def drawable(text: str) -> str:
    """The text with what the font lacks replaced: another machine's words may be in any script."""
    known = _glyphs()
    return "".join(c if ord(c) in known else "□" for c in one_line(text))


@cache
def _glyphs() -> frozenset[int]:
    font = font_manager.get_font(font_manager.findfont(FontProperties(family=FONT)))
    return frozenset(font.get_charmap())


def ticks(scale: float) -> FuncFormatter:
    """Tick labels of values in SI, shown in units of `scale`."""
    return FuncFormatter(lambda value, _: plain(value / scale))


def plain(value: float) -> str:
    """A tick's number without needless zeros."""
    if abs(value) < 1e-12:  # noqa: PLR2004 - what floating point leaves of a zero
        return "0"
    text = significant(value, 4)
    return text.rstrip("0").rstrip(".") if "." in text else text


def few_ticks(axes: Axes, *, x: int | None = None, y: int | None = None) -> None:
    """About so many round ticks on an axis."""
    if x is not None:
        axes.xaxis.set_major_locator(MaxNLocator(x, steps=[1, 2, 2.5, 5, 10]))
    if y is not None:
        axes.yaxis.set_major_locator(MaxNLocator(y, steps=[1, 2, 2.5, 5, 10]))
