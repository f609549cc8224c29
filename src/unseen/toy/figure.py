"""The toy as one picture: the plane, two of its cells as curves, other starts, and the same cells along training."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from unseen.report import figures
from unseen.rows import interval
from unseen.toy.plane import FOREIGN, FUNCTION, HALF, NOISE, SEEN, SHOWN, UNSEEN, Planes, Values, describe

COLOURS = colormaps["PuOr"]
"""Orange to purple for colour-blind readers (Brewer's), white in the middle, as on the map of generalisation."""

NOISE_INK, FUNCTION_INK = to_hex(COLOURS(0.12)), to_hex(COLOURS(0.9))
_INK, _PAPER = "#000001", "#fffffe"  # on cells; unlike the page's own inks, these do not change with its colours
_HALO = [patheffects.withStroke(linewidth=3, foreground=_PAPER)]

_STARTS = {
    0.0: "Starting by passing nothing (no skip)",
    HALF: "Starting by passing half of everything",
    1.0: "Starting by passing everything (skip)",
}

TITLES = (
    ("The simplest function, the most complex noise", FUNCTION_INK),
    ("The most complex function, the simplest noise", NOISE_INK),
)


def planes(found: Planes, numbers: bool = True) -> list[figures.Plot]:
    """How much of unseen noise is removed, one plane for each start; then what is lost of unseen functions."""
    plots = [_removed(found, start, numbers, large=start == found.starts[0]) for start in found.starts]
    return [*plots, _lost(found, found.starts[0], numbers)]


def _removed(found: Planes, start: float, numbers: bool, large: bool) -> figures.Plot:
    each = found.removed(start)
    mean = each.mean(axis=0)

    def draw(axes: Axes) -> None:
        _heat(axes, found, mean, Normalize(0, 1), "share of unseen noise that is removed" if large else "")
        _numbers(axes, mean, Normalize(0, 1)) if numbers else None
        _border(axes, found, each, large)
        if large and not numbers:
            _words(axes, found)

    total = found.tally(start)
    alt = (
        f"Share of unseen noise that is removed by {describe(start)}, over functions by noise: {mean.min():.2f} to "
        f"{mean.max():.2f}. The function was learned in {total.function} of {total.cells} cells, the noise in "
        f"{total.noise}. All values are in the table of cells."
    )
    return figures.Plot(f"removed-{start:g}", _title(start), alt, draw, "0 left as it was, 1 removed", 0.12, 0.88)


def _title(start: float) -> str:
    """Of what a network does before it is trained."""
    if start in _STARTS:
        return _STARTS[start]
    return f"Starting by passing {start:g}"


def _lost(found: Planes, start: float, numbers: bool) -> figures.Plot:
    mean = found.lost(start, FOREIGN).mean(axis=0)

    def draw(axes: Axes) -> None:
        _heat(axes, found, mean, Normalize(0, max(1.0, float(mean.max()))), "", colours="YlGnBu")
        _numbers(axes, mean, Normalize(0, max(1.0, float(mean.max()))), "YlGnBu") if numbers else None

    alt = (
        f"RMS of what is lost of functions with frequencies that were not trained on: {mean.min():.2f} to "
        f"{mean.max():.2f}, where a function has 1. All values are in the table of cells."
    )
    return figures.Plot("lost", "Unseen functions: what is lost", alt, draw, "RMS; 1 is a whole function", 0.12, 0.88)


def _heat(axes: Axes, found: Planes, values: Values, norm: Normalize, label: str, colours: str = "PuOr") -> None:
    axes.grid(visible=False)
    mesh = axes.pcolormesh(values, cmap=colormaps[colours], norm=norm, edgecolors="face", linewidth=0.2)
    axes.set_xticks([n + 0.5 for n in range(len(found.freedom))], labels=[str(d) for d in found.freedom])
    names = [f"{m}\nwhite" if m == found.samples else str(m) for m in found.patterns]
    axes.set_yticks([n + 0.5 for n in range(len(found.patterns))], labels=names)
    for text in axes.get_yticklabels():
        text.set_linespacing(0.9)
    axes.set_xlabel("complexity of the function: numbers that name one")
    axes.set_ylabel("complexity of the noise")
    bar = figures.colour_bar(axes, mesh)
    if label:
        bar.set_label(label)


def _numbers(axes: Axes, values: Values, norm: Normalize, colours: str = "PuOr") -> None:
    for (y, x), value in np.ndenumerate(values):
        red, green, blue, _ = colormaps[colours](norm(value))
        ink = _INK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else _PAPER
        axes.text(x + 0.5, y + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)


def _border(axes: Axes, found: Planes, each: Values, large: bool) -> None:
    """Where more than half is removed: a line for each seed, one for their mean, and where both are as complex."""
    x, y = np.arange(len(found.freedom)) + 0.5, np.arange(len(found.patterns)) + 0.5
    place: dict[str, Any] = {"levels": [HALF], "colors": _INK}
    with np.errstate(all="ignore"):
        for values in each:
            if values.min() < HALF < values.max():
                axes.contour(x, y, values, linewidths=0.5, alpha=0.6, **place)
        if each.mean(axis=0).min() < HALF < each.mean(axis=0).max():
            axes.contour(x, y, each.mean(axis=0), linewidths=2.2 if large else 1.4, **place)
    equal = np.interp(found.freedom, found.patterns, y, left=np.nan, right=np.nan)
    axes.plot(x, equal, color=_INK, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.set_xlim(0, len(x))
    axes.set_ylim(0, len(y))


def _words(axes: Axes, found: Planes) -> None:
    """In the middle of the cells in which one of the two was learned, where there are enough of them."""
    style: dict[str, Any] = {"fontsize": 15, "weight": "bold", "path_effects": _HALO, "linespacing": 1.15}
    learned = np.array([[cell.learned for cell in line] for line in found.cells[found.starts[0]]])
    for kind, ink in ((FUNCTION, FUNCTION_INK), (NOISE, NOISE_INK)):
        places = np.argwhere(learned == kind)
        if len(places) >= learned.size / 6:
            y, x = places.mean(axis=0) + 0.5
            axes.text(x, y, f"learned\nthe {kind}", color=ink, ha="center", va="center", **style)
    for name, (y, x) in zip("AB", found.corners(), strict=True):
        axes.add_patch(Rectangle((x + 0.06, y + 0.06), 0.88, 0.88, fill=False, edgecolor=_PAPER, linewidth=1.6))
        axes.text(x + 0.5, y + 0.5, name, color=_PAPER, weight="bold", fontsize=12, ha="center", va="center")


def curves(found: Planes) -> list[figures.Plot]:
    """Two cells, each under noise of the trained kind and under unseen noise: one test signal of each."""
    start, seed = found.starts[0], found.seeds[0]
    plots = []
    for name, (up, along), (title, ink) in zip("AB", found.corners(), TITLES, strict=True):
        experiment = found.experiments[start, seed, found.patterns[up], found.frequencies[along]]
        part = found.examples[found.examples["experiment"] == experiment.id]
        cell = found.cells[start][up][along]
        for suite in SHOWN:
            lines = part[part["suite"] == suite].sort_values("sample")
            removed = float(found.removed(start, (suite,))[:, up, along].mean())
            known = "the noise it was trained on" if suite == SEEN else "a noise it has never seen"
            plots.append(
                _curve(
                    f"{name.lower()}-{suite}",
                    f"{name}  {title}" if suite == SEEN else "",
                    f"{known}: {100 * removed:.0f} % removed",
                    {key: lines[key].to_numpy(np.float64) for key in ("degraded", "clean", "restored")},
                    ink,
                    f"{title} ({cell.freedom} and {cell.patterns} numbers), under {known}: of such noise "
                    f"{100 * removed:.0f} % is removed.",
                )
            )
    return plots


def _curve(key: str, title: str, note: str, lines: dict[str, Values], ink: str, alt: str) -> figures.Plot:
    def draw(axes: Axes) -> None:
        x = np.arange(len(lines["clean"]))
        axes.plot(x, lines["degraded"], color=figures.MUTED, linewidth=0.8, marker="o", markersize=2.2, alpha=0.75)
        axes.plot(x, lines["clean"], color="#c3c8cc", linewidth=5, solid_capstyle="round", zorder=1)
        axes.plot(x, lines["restored"], color=ink, linewidth=1.9, zorder=3)
        most = max(4.2, *(float(np.abs(line).max()) for line in lines.values()))
        axes.set_ylim(-1.06 * most, 1.06 * most)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        for side in axes.spines.values():
            side.set_visible(False)

    return figures.Plot(key, title, alt, draw, note, 0.02, 0.98)


def training(found: Planes) -> figures.Plot:
    """What the networks of the two cells remove, of seen and of unseen noise, along training."""
    start = found.starts[0]
    steps = [0, *found.steps]
    lines: list[tuple[str, str, tuple[str, ...], tuple[int, int]]] = []
    for name, place, (_, ink) in zip("AB", found.corners(), TITLES, strict=True):
        lines += [(f"{name}, seen", ink, (SEEN,), place), (f"{name}, unseen", ink, UNSEEN, place)]
    estimates = {
        label: [(1 - start,) * 3, *(_estimate(found, start, suites, step, place) for step in found.steps)]
        for label, _, suites, place in lines
    }

    def draw(axes: Axes) -> None:
        x = np.arange(len(steps), dtype=np.float64)
        for label, ink, suites, _ in lines:
            mean, low, high = np.array(estimates[label]).T
            seen = suites == (SEEN,)
            axes.plot(
                x, mean, color=ink, linewidth=1.5 if seen else 2.6, linestyle=(0, (4, 2)) if seen else "-",
                marker="o", markersize=4 if seen else 5.5, markeredgewidth=0,
            )  # fmt: skip
            axes.fill_between(x, low, high, color=ink, alpha=0.15, linewidth=0)
        _label(axes, x[-1], {label: estimates[label][-1][0] for label in estimates}, {one[0]: one[1] for one in lines})
        axes.set_xlim(-0.1, x[-1] + 0.1)
        axes.set_ylim(0, 1.03)
        axes.set_xticks(x, labels=[str(step) for step in steps])
        axes.set_xlabel("training steps")
        axes.set_ylabel("noise removed")

    words = "; ".join(f"{label}: {values[-1][0]:.2f} at the end" for label, values in estimates.items())
    return figures.Plot("training", _along(estimates), f"Noise removed. {words}.", draw, "", 0.14, 0.8)


def _along(estimates: dict[str, list[tuple[float, float, float]]]) -> str:
    """What the second network, which has the noise for the simpler thing, shows between its first test and the end."""
    (seen, *_), (unseen, *_) = (
        np.subtract(estimates[name][-1], estimates[name][1]) for name in ("B, seen", "B, unseen")
    )
    return "The longer, the blinder" if unseen < -0.1 < seen else "Along training"


def _label(axes: Axes, x: float, ends: dict[str, float], inks: dict[str, str]) -> None:
    """At the ends of lines, pushed apart where they would overlap."""
    below = -1.0
    for label, end in sorted(ends.items(), key=lambda item: item[1]):
        below = max(end, below + 0.085)
        axes.text(x + 0.18, below, label, color=inks[label], fontsize=9, va="center", clip_on=False)


def _estimate(
    found: Planes, start: float, suites: tuple[str, ...], step: int, place: tuple[int, int]
) -> tuple[float, float, float]:
    return interval(found.removed(start, suites, step=step)[:, place[0], place[1]])


_WIDE, _HIGH = 13.2, 9.3  # inches


def draw_toy(found: Planes) -> bytes:
    """All on one sheet, as PNG, on white."""
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(_WIDE, _HIGH))

        def place(left: float, bottom: float, wide: float, high: float) -> Axes:
            return figure.add_axes((left / _WIDE, bottom / _HIGH, wide / _WIDE, high / _HIGH))

        def write(left: float, bottom: float, text: str, **style: Any) -> None:
            figure.text(left / _WIDE, bottom / _HIGH, text, **style)

        answer = " Whichever is simpler." if found.holds(found.starts[0]) else ""
        write(0.3, _HIGH - 0.46, found.toy.question + answer, fontsize=17, weight="bold")
        write(0.3, _HIGH - 0.62, _subtitle(found), fontsize=10.5, color=figures.MUTED, va="top", linespacing=1.45)
        main, *others, _ = planes(found, numbers=False)
        axes = place(0.85, 4.15, 5.0, 3.75)
        main.draw(axes)
        axes.set_title("How much of unseen noise is removed", fontsize=12, pad=8)
        axes.set_xlabel("complexity of the function (how many numbers name one)")
        axes.set_ylabel("complexity of the noise (how many numbers name one)")
        for n, plot in enumerate(curves(found)):
            row, column = divmod(n, 2)
            axes = place(7.35 + 2.95 * column, 6.25 - 2.15 * row, 2.8, 1.35)
            plot.draw(axes)
            if plot.title:
                write(7.35, 7.9 - 2.15 * row, plot.title, fontsize=11.5, weight="bold", color=TITLES[row][1])
            axes.set_title(plot.note, fontsize=9, weight="normal", color=figures.INK, pad=3)
        _legend(figure)
        lower: Sequence[figures.Plot] = [*others[:2], training(found)]
        for n, plot in enumerate(lower):
            axes = place(0.85 + 4.25 * n, 0.62, 3.0, 2.35)
            plot.draw(axes)
            axes.set_title(plot.title, fontsize=11, pad=7)
            if n < len(lower) - 1:
                axes.set_xlabel("complexity of the function", fontsize=9)
                axes.set_ylabel("complexity of the noise", fontsize=9)
            axes.tick_params(labelsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _subtitle(found: Planes) -> str:
    networks = len(found.patterns) * len(found.frequencies)
    seeds = "one seed" if len(found.seeds) == 1 else f"{len(found.seeds)} seeds"
    return (
        f"{networks} small networks, {seeds} each. Every network is trained on one family of "
        "functions under one family of noise, and tested on noise that it has never seen.\n"
        f"{_start(found.starts[0])} Thick line: half of unseen noise is removed (thin: single seeds). Dots: function "
        "and noise are as complex."
    )


def _start(start: float) -> str:
    return f"Large: networks that start by passing {'half of everything' if start == HALF else f'{start:g}'}."


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color="#c3c8cc", linewidth=5, label="the function"),
        Line2D([], [], color=figures.MUTED, linewidth=0.8, marker="o", markersize=3, label="what the network sees"),
        Line2D([], [], color=figures.INK, linewidth=1.9, label="what it makes of it"),
    ]
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(7.25 / _WIDE, 3.52 / _HIGH), ncols=3, frameon=False,
        fontsize=9, handlelength=1.8, columnspacing=1.6,
    )  # fmt: skip
