"""Style, palette and rendering shared by all figures. No pyplot: figures are drawn in web threads."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from meshgauge.matrix import Cell, is_baseline
from meshgauge.run import RunRecord
from reports.comparing.questions import arm_name

Row = Mapping[str, str | int | float | None]

WIDTH_IN = 7.2
DPI = 150
TITLE_IN = 0.37
LINE_IN = 0.19
HEAD_IN = 0.95  # title and two lines, with air beneath
INK = "#1f2430"
FAINT = "#5b6472"
GRID = "#dfe3e8"
MARGIN_STRIP = "#e9ecef"
CONTROL = "#7a7f87"

# Okabe and Ito's colour-blind-safe set, yellow left out (too pale on white), three of Tol's muted set added.
# Sources: jfly.uni-koeln.de/color; personal.sron.nl/~pault.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#332288", "#882255")
DASHES: tuple[tuple[int, tuple[int, ...]], ...] = ((0, ()), (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))  # type: ignore[assignment]
MARKERS = ("o", "s", "^", "D")

VERDICT_COLOURS: Mapping[str, str] = {
    "slower": "#b34700",
    "more": "#b34700",
    "faster": "#00639c",
    "less": "#00639c",
    "equivalent": "#007a58",
    "inconclusive": "#5b6472",
    "invalid": "#5b6472",
}

# Hinting takes a third of the time of a figure, and shows only below 100 dots an inch. Text stays text in SVG: it can
# be searched and read aloud, and the file is half as large. The salt makes the same figure the same bytes.
_STYLE: dict[Any, Any] = {"text.hinting": "none", "svg.fonttype": "none", "svg.hashsalt": "meshgauge"}

# Matplotlib's font cache, text layout and rcParams are not safe in several threads at once.
_DRAWING = threading.Lock()


@dataclass(frozen=True, slots=True)
class FigurePage:
    """A figure ready to be shown: what it is called, what it says to those who cannot see it, and its data.

    Attributes:
        name: stem of its files, unique in a run.
        rows: the data drawn, one mapping a point; becomes the CSV behind it. Figures with the same name, title, alt
            text and rows are taken for the same picture (reports.figures.render).
        draw: builds the figure anew. A ``functools.partial`` of a function of a module, so that another process
            can draw it as well.
    """

    name: str
    title: str
    alt: str
    rows: tuple[Row, ...]
    draw: Callable[[], Figure]

    def png(self) -> bytes:
        """Return the figure as PNG on a white card."""
        with _DRAWING, matplotlib.rc_context(_STYLE):
            return _png(self.draw(), "")

    def svg(self) -> bytes:
        """Return the figure as SVG, text as text."""
        with _DRAWING, matplotlib.rc_context(_STYLE):
            return _svg(self.draw(), "")

    def images(self, mark: str = "") -> tuple[bytes, bytes]:
        """Return PNG and SVG of one drawing, which saves to build it twice.

        Args:
            mark: written near the beginning of both files, to know them again; empty: nothing.
        """
        with _DRAWING, matplotlib.rc_context(_STYLE):
            figure = self.draw()
            return _png(figure, mark), _svg(figure, mark)


@dataclass(frozen=True, slots=True)
class ArmStyle:
    """How one arm is drawn in every figure of a run."""

    colour: str
    dashes: tuple[int, tuple[int, ...]]
    marker: str


def arm_styles(run: RunRecord) -> Mapping[str, ArmStyle]:
    """Return one style per arm name: the control grey, others a colour each, then colour with dashes."""
    styles: dict[str, ArmStyle] = {}
    coloured = 0
    for cell in run.cells:
        name = arm_name(cell)
        if name in styles:
            continue
        if _is_control(run, cell):
            styles[name] = ArmStyle(CONTROL, DASHES[0], MARKERS[0])
            continue
        turn = coloured // len(PALETTE) % len(DASHES)
        styles[name] = ArmStyle(PALETTE[coloured % len(PALETTE)], DASHES[turn], MARKERS[turn])
        coloured += 1
    return styles


def _is_control(run: RunRecord, cell: Cell) -> bool:
    mesh = cell.environment.mesh
    return mesh.label == run.plan.baseline and is_baseline(mesh)


def new_figure(height_in: float) -> Figure:
    """Return an empty white figure of the page's width."""
    return Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white")


def put_title(figure: Figure, title: str, *lines: str) -> None:
    """Write the title and, beneath it, what is measured, in what unit, with what n, and where.

    The title takes TITLE_IN from the top, each line LINE_IN more.
    """
    height = float(figure.get_size_inches()[1])
    place: dict[str, Any] = {"ha": "left", "va": "top", "parse_math": False}
    figure.text(0.02, 1 - 0.10 / height, title, size=12, weight="bold", color=INK, **place)
    for at, line in enumerate(lines):
        y = 1 - (TITLE_IN + LINE_IN * at) / height
        figure.text(0.02, y, shortened(line, 100), size=8.5, color=FAINT, **place)


def axes_at(figure: Figure, left_in: float, bottom_in: float, width_in: float, height_in: float) -> Axes:
    """Return clean axes placed in inches from the lower left corner."""
    width, height = (float(size) for size in figure.get_size_inches())
    axes = figure.add_axes((left_in / width, bottom_in / height, width_in / width, height_in / height))
    axes.set_facecolor("white")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(axis="both", which="both", length=0, labelsize=8.5, labelcolor=FAINT)
    axes.set_axisbelow(True)
    return axes


def legend_below(figure: Figure, handles: Sequence[Artist], bottom_in: float, columns: int, **spacing: float) -> None:
    """Put a legend without frame at the lower left, ``bottom_in`` inches above the figure's edge."""
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.01, bottom_in / figure.get_figheight()),
        ncols=columns,
        fontsize=8.5,
        labelcolor=INK,
        frameon=False,
        borderaxespad=0,
        **spacing,
    )


def shortened(text: str, characters: int) -> str:
    """Return the text cut to fit; the full one stands in the table beside the figure."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _png(figure: Figure, mark: str) -> bytes:
    out, known = io.BytesIO(), PngInfo()
    if mark:
        known.add_text("Source", mark)
    canvas: Any = FigureCanvasAgg(figure)  # its drawing methods carry no types
    canvas.draw()
    image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
    # A chart has few colours: a palette makes the file a third as large, and looks the same.
    palette = image.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(out, format="png", dpi=(DPI, DPI), pnginfo=known)
    return out.getvalue()


def _svg(figure: Figure, mark: str) -> bytes:
    out = io.BytesIO()
    known = {"Date": None, "Creator": "Meshgauge", **({"Identifier": mark} if mark else {})}
    # Not savefig, which goes through everything twice. It leaves the figure at 72 dots an inch: PNG comes first.
    canvas: Any = FigureCanvasSVG(figure)  # as above
    canvas.print_svg(out, metadata=known)
    # Without it browsers make one space of several, which keep the parts of a line apart.
    return out.getvalue().replace(b"<svg ", b'<svg xml:space="preserve" ', 1)
