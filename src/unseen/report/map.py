"""The map of generalisation as heat maps: one picture, one self-contained page, and the cells as a table."""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unseen.evaluation.grid import UNITS, Axis, Map, Plane
from unseen.report import figures
from unseen.report.answer import count, listed, signed
from unseen.report.template import rendered, typographic, write
from unseen.rows import QUANTITIES, display, write_rows

WORKS = 0.5
"""A removal ratio from here on is called working: more than half of the rain is gone."""

DRAWN = ("removal_ratio", "residual", "psnr_rgb", "reconstruction")
"""What the heat maps are of, the first one large."""

TABLED = (
    "removal_ratio", "residual", "removal", "reconstruction", "psnr_rgb", "gain_rgb", "psnr_y", "gain_y", "mse",
    "action_ratio",
)  # fmt: skip

_TITLES = {
    "removal_ratio": ("Removal ratio", "0 did nothing, 1 removed the rain"),
    "residual": ("Residual: error inside the rain", "lower is better"),
    "psnr_rgb": ("PSNR (RGB), and gain over the input", "dB"),
    "reconstruction": ("E_B: damage outside the rain", "lower is better"),
}
_UNIT = {"direction": " degrees", "length": " pixels", "width": " pixels"}
_LEAST, _MOST = 4.8, 9.0  # points; values that would be smaller are left out
_LABEL = 0.5  # inches: the room that a value below an axis takes
_DARK, _LIGHT = "#000001", "#fffffe"  # in cells; unlike the page's own inks, these do not change with its colours


@dataclass(frozen=True)
class Tally:
    """How many cells of which the removal ratio is defined, in how many of them it is at least `WORKS`, and in how
    many of those the reference has that too and as small a residual: there, the claim is void."""

    cells: int
    works: int
    void: int


@dataclass(frozen=True)
class Stop:
    """Where a restorer stops, going out from the middle of a plane along one factor: the first values under `WORKS`
    below and above the middle (None: not on the map). `at_once`: already in the middle."""

    factor: str
    below: float | None
    above: float | None
    at_once: bool


def tally(found: Map, inside: bool | None) -> Tally:
    """Over all planes, the cells that lie inside the training range (True), outside (False), or where none is known."""
    totals = np.zeros(3, np.int64)
    for plane in found.planes:
        chosen = np.array([cell.inside is inside for cell in plane.cells()])
        ratio, residual = (found.values(plane, name).ravel()[chosen] for name in ("removal_ratio", "residual"))
        theirs, left = (
            found.values(plane, name, found.reference).ravel()[chosen] for name in ("removal_ratio", "residual")
        )
        works = ratio >= WORKS
        totals += (~np.isnan(ratio)).sum(), works.sum(), (works & (theirs >= WORKS) & (left <= residual)).sum()
    return Tally(*totals.tolist())


def stops(found: Map) -> list[Stop]:
    """For every factor on the map, on the first plane that has it."""
    known: dict[str, Stop] = {}
    for plane in found.planes:
        ratio = found.values(plane, "removal_ratio")
        for axis, line in ((plane.x, ratio[plane.y.middle]), (plane.y, ratio[:, plane.x.middle])):
            known.setdefault(axis.factor, _stop(axis, line))
    return list(known.values())


def _stop(axis: Axis, line: NDArray[np.float64]) -> Stop:
    def first(cells: range) -> float | None:
        return next((axis.points[cell] for cell in cells if line[cell] < WORKS), None)

    below, above = first(range(axis.middle, -1, -1)), first(range(axis.middle, len(line)))
    return Stop(axis.factor, below, above, bool(line[axis.middle] < WORKS))


def verdict(found: Map) -> list[str]:
    """What the map shows, in sentences computed from its cells; the first says it all."""
    return [_works(found) + "; " + _stopped(found) + ".", *_caveats(found)]


def _works(found: Map) -> str:
    parts = []
    for inside, where in ((True, " inside its training range"), (False, " outside it"), (None, "")):
        total = tally(found, inside)
        if total.cells:
            share = f"{total.works} of the {total.cells} cells ({100 * total.works / total.cells:.0f} %)"
            if total.works in (0, total.cells):
                share = f"all {total.cells} cells" if total.works else f"none of the {total.cells} cells"
            parts.append(f"in {share}{where}")
    return f"{found.name} removes more than half of the rain {listed(parts) or 'nowhere: no cell has any'}"


def _stopped(found: Map) -> str:
    ends, never = [], []
    for stop in stops(found):
        if stop.at_once:
            return f"even in the middle of the map its removal ratio is under {WORKS:g}"
        values = [f"{end:g}" for end in (stop.below, stop.above) if end is not None]
        if values:
            ends.append(f"{stop.factor} {' and '.join(values)}{_UNIT.get(stop.factor, '')}")
        else:
            never.append(stop.factor)
    if not ends:
        return f"from the middle outwards, one factor at a time, it falls under {WORKS:g} nowhere on the map"
    text = f"from the middle outwards, one factor at a time, it first falls under {WORKS:g} at {listed(ends)}"
    return f"{text}, and along {listed(never)} nowhere on the map" if never else text


def _caveats(found: Map) -> list[str]:
    notes = []
    works = sum(tally(found, inside).works for inside in (True, False, None))
    void = sum(tally(found, inside).void for inside in (True, False, None))
    if found.name != found.reference and works:
        notes.append(
            f"In {void} of the {works} cells in which it works, a 5 x 5 {found.reference} filter works too, "
            f"and leaves as small a residual{': there, the claim is void' if void else ''}."
        )
    gains = np.concatenate([found.values(plane, "gain_rgb").ravel() for plane in found.planes])
    harmed = int((gains < 0).sum())
    if harmed:
        notes.append(f"In {harmed} of the {len(gains)} cells it leaves the image worse than it found it (PSNR).")
    return [*notes, *found.notes]


def cells_table(found: Map) -> pd.DataFrame:
    """One line per restorer, plane and cell: the four factors, whether it is `inside`, and the quantities."""
    lines = []
    for who in dict.fromkeys((found.name, found.reference)):
        for plane in found.planes:
            for cell in plane.cells():
                values = found.summary[who, cell.suite]
                lines.append(
                    {
                        "restorer": who,
                        "plane": plane.name,
                        **{factor: cell.factors[factor] for factor in UNITS},
                        "inside": "" if cell.inside is None else str(cell.inside).lower(),
                        "images": int(values["images"]),
                        **{quantity: values[quantity] for quantity in TABLED},
                    }
                )
    return pd.DataFrame(lines)


@dataclass(frozen=True)
class Colours:
    """The colours of a quantity, the same on all planes."""

    map: Colormap
    norm: Normalize

    def of(self, value: float) -> tuple[float, ...]:
        return self.map(self.norm(value))


def colours(found: Map, quantity: str) -> Colours:
    """For colour-blind readers (Brewer's): orange to purple for the removal ratio, where white is half; else blue to
    yellow, over what both restorers reach, so that dark is as bad as the reference, or worse."""
    if quantity == "removal_ratio":
        return Colours(colormaps["PuOr"], Normalize(0, 1))
    who = dict.fromkeys((found.name, found.reference))
    values = np.concatenate([found.values(plane, quantity, one).ravel() for plane in found.planes for one in who])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    better = QUANTITIES[quantity].better
    if better == "lower":
        return Colours(colormaps["YlGnBu"], Normalize(0, high or 1))
    return Colours(colormaps["YlGnBu_r"], Normalize(low, high if high > low else low + 1))


def panels(found: Map, plane: Plane) -> list[figures.Plot]:
    """The heat maps of one plane: removal ratio, the same of the reference, and the rest of `DRAWN`."""
    first, *rest = DRAWN
    return [
        _panel(found, plane, first, found.name),
        _panel(found, plane, first, found.reference),
        *(_panel(found, plane, quantity, found.name) for quantity in rest),
    ]


def _panel(found: Map, plane: Plane, quantity: str, who: str) -> figures.Plot:
    values, shades = found.values(plane, quantity, who), colours(found, quantity)
    gains = found.values(plane, "gain_rgb", who) if quantity == "psnr_rgb" else None

    def draw(axes: Axes) -> None:
        _heat(axes, plane, values, shades)
        _print(axes, values, gains, shades, quantity)
        if quantity == DRAWN[0]:
            _border(axes, values >= WORKS)
        if plane.known:
            _box(axes, plane)

    defined = values[~np.isnan(values)]
    ends = f"{display(quantity, defined.min())} to {display(quantity, defined.max())}" if len(defined) else "undefined"
    alt = f"{QUANTITIES[quantity].title} of {who} over {plane.name}: {ends}. All values are in the table of cells."
    title, note = _TITLES[quantity]
    if who != found.name:
        title, note = f"{title} of a 5 x 5 {who} filter", ""
    return figures.Plot(quantity, title, alt, draw, note, left=0.13, right=0.9)


def _heat(axes: Axes, plane: Plane, values: NDArray[np.float64], shades: Colours) -> None:
    axes.grid(visible=False)
    axes.patch.set(facecolor="#bbbbbb", alpha=1)  # where a value is undefined
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=shades.map, norm=shades.norm, edgecolors="face", linewidth=0.2
    )
    wide = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted()).width
    for axis, pen, most in ((plane.x, axes.xaxis, wide / _LABEL), (plane.y, axes.yaxis, 12)):
        every = math.ceil(len(axis.points) / most)
        labels = [typographic(f"{point:g}") if n % every == 0 else "" for n, point in enumerate(axis.points)]
        pen.set_ticks([n + 0.5 for n in range(len(axis.points))], labels=labels)
        pen.set_label_text(f"{axis.factor} ({UNITS[axis.factor]})")
    figures.colour_bar(axes, mesh)


def _border(axes: Axes, works: NDArray[np.bool_]) -> None:
    """A dashed line between the cells that work and those that do not."""
    lines = list(_between(works))
    axes.add_collection(LineCollection(lines, colors=_DARK, linewidths=1.1, linestyles=(0, (3, 2)), zorder=4))


def _between(cells: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The edges, two points each, between cells that differ."""
    lines = [((x + 1, y), (x + 1, y + 1)) for y, x in np.argwhere(cells[:, 1:] != cells[:, :-1])]
    lines += [((x, y + 1), (x + 1, y + 1)) for y, x in np.argwhere(cells[1:] != cells[:-1])]
    return np.array(lines, np.float64).reshape(-1, 2, 2)


def _print(
    axes: Axes, values: NDArray[np.float64], gains: NDArray[np.float64] | None, shades: Colours, quantity: str
) -> None:
    """The value of every cell, as large as fits, the gain below it."""
    down, across = values.shape
    room = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted())
    size = min(72 * room.width / across / 2.9, 72 * room.height / down / (1.5 if gains is None else 2.7), _MOST)
    if size < _LEAST:
        return
    for y, x in np.ndindex(down, across):
        value = float(values[y, x])
        text = _short(quantity, value)
        if gains is not None and math.isfinite(gains[y, x]):
            text += "\n" + signed(float(gains[y, x]), 1)
        ink = _DARK if math.isnan(value) or _luminance(shades.of(value)) > 0.18 else _LIGHT
        axes.text(x + 0.5, y + 0.5, typographic(text), ha="center", va="center", fontsize=size, color=ink)


def _short(quantity: str, value: float) -> str:
    """Small errors without their leading 0."""
    if math.isnan(value):
        return "-"
    if quantity == "psnr_rgb":
        return f"{value:.1f}"
    return f"{value:z.2f}" if quantity == "removal_ratio" else f"{value:.3f}".removeprefix("0")


def _luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2): above 0.18, black on it has more contrast than white."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _box(axes: Axes, plane: Plane) -> None:
    """A line around the training range. Of a factor in which none is known, it spans the axis."""
    inside = np.zeros((len(plane.y.points) + 2, len(plane.x.points) + 2), bool)
    for cell in plane.cells():
        inside[cell.y + 1, cell.x + 1] = bool(cell.inside)
    lines = _between(inside) - 1
    for ink, breadth in ((_LIGHT, 4.6), (_DARK, 2.2)):
        frame = LineCollection(list(lines), colors=ink, linewidths=breadth, capstyle="projecting")
        frame.set(clip_on=False, zorder=5)
        axes.add_collection(frame)


def _heading(plane: Plane) -> str:
    held = " and ".join(f"{factor} {value:.3g} {UNITS[factor]}" for factor, value in plane.held.items())
    return f"{plane.x.factor.capitalize()} x {plane.y.factor} (at {held})"


def _subtitle(found: Map) -> str:
    trained = f"Frame: the training range ({found.trained})" if found.trained else "The training range is not known"
    return (
        f"{trained}. {count(len(found.images), 'image').capitalize()} of {found.crop} pixels, the same in every cell."
    )


_WIDE, _TOP, _HEAD, _LARGE, _SMALL = 14.0, 0.8, 0.45, 4.6, 3.3  # inches
_ROWS = ((_LARGE, (0.56, 0.44)), (_SMALL, (1 / 3, 1 / 3, 1 / 3)))


def draw_map(found: Map) -> bytes:
    """All planes on one sheet, as PNG, on white."""
    with matplotlib.rc_context(figures.STYLE):
        tall = _TOP + len(found.planes) * (_HEAD + _LARGE + _SMALL)
        figure = Figure(figsize=(_WIDE, tall))
        figure.text(0.012, 1 - 0.3 / tall, f"Map of generalisation: {found.name}", fontsize=15, weight="bold")
        figure.text(0.012, 1 - 0.58 / tall, _subtitle(found), fontsize=10, color=figures.MUTED)
        below = tall - _TOP
        for plane in found.planes:
            figure.text(0.012, (below - 0.3) / tall, _heading(plane), fontsize=12.5, weight="bold")
            below -= _HEAD
            drawn = iter(panels(found, plane))
            for high, shares in _ROWS:
                left = 0.0
                for share, plot in zip(shares, drawn, strict=False):
                    pad = 0.75 / _WIDE
                    place = (left + pad, (below - high + 0.6) / tall, share - pad - 0.65 / _WIDE, (high - 1.0) / tall)
                    axes = figure.add_axes(place)
                    plot.draw(axes)
                    axes.set_title(
                        f"{plot.title} ({plot.note})" if plot.note else plot.title,
                        fontsize=9.5 if len(shares) > 2 else 11,
                    )
                    left += share
                below -= high
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def write_map(found: Map, folder: Path | str) -> Path:
    """Write `map.html` (one file, nothing fetched), `map.png`, `map.csv` (a line per cell) and `rows.parquet`.

    Returns the path of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(found.rows, folder / "rows.parquet")
    write(folder / "map.csv", cells_table(found).to_csv(index=False, lineterminator="\n").encode())
    write(folder / "map.png", draw_map(found))
    write(folder / "map.html", html(found).encode())
    return folder / "map.html"


def html(found: Map) -> str:
    """The page as text."""
    planes = [
        (_heading(plane), [(p, Markup(figures.svg(p, f"p{n}{k}"))) for k, p in enumerate(panels(found, plane))])
        for n, plane in enumerate(found.planes)
    ]
    return rendered(
        "map.html.jinja",
        found=found,
        said=verdict(found),
        subtitle=_subtitle(found),
        planes=planes,
        table=_printed(found),
    )


def _printed(found: Map) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """For every plane its name, the heads and the lines of a table: the cells, and the reference's removal ratio."""
    lots = []
    for plane in found.planes:
        columns = {q: found.values(plane, q).ravel() for q in (*DRAWN, "gain_rgb")}
        theirs = found.values(plane, DRAWN[0], found.reference).ravel()
        heads = (
            plane.x.factor, plane.y.factor, "training", *(QUANTITIES[q].title for q in columns),
            f"{QUANTITIES[DRAWN[0]].title} of {found.reference}",
        )  # fmt: skip
        lines = []
        for n, cell in enumerate(plane.cells()):
            where = "-" if cell.inside is None else "inside" if cell.inside else "outside"
            values = [display(q, float(column[n])) for q, column in columns.items()]
            place = [f"{cell.factors[axis.factor]:g}" for axis in (plane.x, plane.y)]
            lines.append([*place, where, *values, display(DRAWN[0], float(theirs[n]))])
        lots.append((plane.name, heads, lines))
    return lots
