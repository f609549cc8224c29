"""The toy's page, picture and table, from rows."""

from pathlib import Path

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from unseen.report import figures
from unseen.report.template import rendered, write
from unseen.rows import QUANTITIES
from unseen.toy.figure import curves, draw_toy, planes, training
from unseen.toy.plane import UNSEEN, Cell, Planes, cells_table, describe, verdict

_SIZES = {"plane": (5.6, 4.4), "curve": (4.4, 2.0), "training": (5.6, 4.0)}  # inches

HEADS = (
    "function", "noise", "learned", "unseen noise removed", "95 % interval", "closed form", "seen noise removed",
    "function lost", "lost under unseen noise", "unseen function lost", *UNSEEN,
)  # fmt: skip


def write_toy(found: Planes, folder: Path | str) -> Path:
    """Write `toy.html` (one file, nothing fetched), `toy.png` and `toy.csv` (a line per cell). Returns the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "toy.csv", cells_table(found).to_csv(index=False, lineterminator="\n").encode())
    write(folder / "toy.png", draw_toy(found))
    write(folder / "toy.html", html(found).encode())
    return folder / "toy.html"


def html(found: Planes) -> str:
    """The page as text."""
    recipe = next(iter(found.experiments.values())).recipe
    network = next(iter(found.experiments.values())).network
    return rendered(
        "toy.html.jinja",
        toy=found.toy,
        said=verdict(found),
        planes=_drawn(planes(found), "plane"),
        curves=_drawn(curves(found), "curve"),
        training=_drawn([training(found)], "training"),
        recipe=recipe,
        network=network,
        samples=found.samples,
        seeds=found.seeds,
        lost=QUANTITIES["bias"].meaning,
        heads=HEADS,
        table=[(describe(start), [_line(cell) for cell in found.flat(start)]) for start in found.starts],
    )


def _drawn(plots: list[figures.Plot], size: str) -> list[tuple[figures.Plot, Markup]]:
    return [(plot, Markup(_svg(plot, _SIZES[size]))) for plot in plots]


def _svg(plot: figures.Plot, size: tuple[float, float]) -> str:
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=size)
        figure.patch.set_alpha(0)
        below = 0.03 if size == _SIZES["curve"] else 0.14
        axes = figure.add_axes((plot.left, below, plot.right - plot.left, 0.98 - below))
        axes.patch.set_alpha(0)
        plot.draw(axes)
        return figures.inlined(figure, f"toy-{plot.key.replace(' ', '-')}")


def _line(cell: Cell) -> list[str]:
    known = cell.low == cell.low  # one seed has no interval
    learned, interval = (cell.learned, f"{cell.low:.3f} to {cell.high:.3f}") if known else ("-", "-")
    values = (cell.removed_seen, cell.lost, cell.lost_unseen, cell.lost_foreign, *cell.by_noise)
    return [
        str(cell.freedom), str(cell.patterns), learned, f"{cell.removed:.3f}", interval, f"{cell.closed:.3f}",
        *(f"{value:.3f}" for value in values),
    ]  # fmt: skip
