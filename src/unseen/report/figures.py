"""Figures: small panels as SVG that takes its colours from the page, and the same panels on one sheet as PNG.

Colours are for colour-blind readers (Okabe and Ito, 2008) and never alone: lines differ in width, dash or marker too.
This file stays whole because all panels share their pens, scales and limits.
"""

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from unseen.report.answer import BLIND as BLIND_BELOW
from unseen.report.answer import called_ordinary
from unseen.report.tables import MEAN, WITH_MASK, WITHOUT_MASK, Estimate, Setting, Tables, axis_title
from unseen.rows import BANDS, QUANTITIES, display

INK, MUTED, LINE, SEEN, BLIND = "#1c2024", "#68727b", "#dde1e4", "#0072b2", "#b4540a"
_UNSEEN = ("#d55e00", "#009e73", "#c0629a", "#b98900", "#3a9fdc", "#7a6a5a", "#5c4bb0", "#8a2f3c")
_UNSEEN_DARK = ("#ff8a4c", "#2fcf9f", "#ec9bc8", "#f0c04a", "#7fcbff", "#bfae9c", "#a99cf5", "#f08a96")
_MARKERS = "s^vPX<>d"
_DASHES = (
    (),
    (5.0, 1.6),
    (2.0, 1.4),
    (6.0, 1.5, 1.5, 1.5),
    (1.0, 1.2),
    (8.0, 2.0),
    (3.0, 1.0, 1.0, 1.0),
    (4.0, 4.0),
)
_RAMP = 8
_RAMP_LIGHT = tuple(to_hex(colormaps["viridis"](x)) for x in np.linspace(0.05, 0.78, _RAMP))
_RAMP_DARK = tuple(to_hex(colormaps["viridis"](x)) for x in np.linspace(0.42, 0.97, _RAMP))

VARIABLES: dict[str, tuple[str, str, str]] = {
    "ink": (INK, INK, "#e8eaec"),
    "muted": (MUTED, MUTED, "#9aa4ad"),
    "line": (LINE, LINE, "#33393f"),
    "seen": (SEEN, SEEN, "#4fb0f0"),
    "blind": (BLIND, BLIND, "#e08a48"),
    **{f"u{i}": (a, a, b) for i, (a, b) in enumerate(zip(_UNSEEN, _UNSEEN_DARK, strict=True))},
    **{f"v{i}": (a, a, b) for i, (a, b) in enumerate(zip(_RAMP_LIGHT, _RAMP_DARK, strict=True))},
}
"""Colours of the page by name: as drawn, and what stands for it on a light and on a dark page."""

STYLE: dict[Any, Any] = {  # matplotlib has its own type for the keys
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "unseen",
    "text.parse_math": False,
    "lines.solid_capstyle": "round",
}

_NAMES = {
    "residual": "Residual: error inside the degradation",
    "removal": "E_R: change inside the degradation",
    "reconstruction": "E_B: damage outside the degradation",
    "retention": "Retention: what is kept of the degradation",
    "bias": "Bias: what was done to the content",
    "deviation": "Deviation: noise that leaked through",
}
_SHARES = ("removal_ratio", "retention")
OCTAVES = {
    "retention": "What is left of the degradation",
    "error": "What is wrong",
    "deviation": "What leaks through of the noise",
    "bias": "What is done to the content",
}
"""What is drawn octave by octave."""

_ARROWS = {"higher": "higher is better", "lower": "lower is better", "one": "1 is best", "zero": "0 is best", "": ""}


@dataclass(frozen=True)
class Pen:
    """How a line is drawn, in figures and in their legend."""

    label: str
    colour: str
    width: float = 1.4
    dash: tuple[float, ...] = ()
    marker: str = "o"

    def draw(self, axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], band: bool) -> None:
        known = [(at, e) for at, e in zip(x, estimates, strict=True) if math.isfinite(e.mean)]
        if not known:
            return
        at = [place for place, _ in known]
        mean = [e.mean for _, e in known]
        axes.plot(at, mean, zorder=4 if self.width > 2 else 3, **self.style())
        sure = [(place, e) for place, e in known if e.has_interval]
        if not sure:
            return
        places, low, high = [p for p, _ in sure], [e.low for _, e in sure], [e.high for _, e in sure]
        if band and len(sure) > 1:
            axes.fill_between(places, low, high, color=self.colour, alpha=0.11, linewidth=0, zorder=1)
        else:
            axes.vlines(places, low, high, color=self.colour, linewidth=0.9, alpha=0.6, zorder=2)

    def style(self) -> dict[str, Any]:
        return {
            "color": self.colour,
            "linewidth": self.width,
            "linestyle": (0, self.dash) if self.dash else "-",
            "marker": self.marker,
            "markersize": 3.2 + 0.9 * self.width,
            "markeredgewidth": 0,
        }


LONGEST = 24
"""Of a name along an axis where there is little room, so many characters are written."""


@dataclass(frozen=True)
class Plot:
    """One panel. `alt` says in words what it shows, `note` which way is better.

    `left` and `right` are where the axes end, as shares of the panel's width, and `bottom`, of its height: laying out
    by trial takes half the time of a report.
    """

    key: str
    title: str
    alt: str
    draw: Callable[[Axes], None]
    note: str = ""
    left: float = 0.12
    bottom: float = 0.18
    right: float = 0.97


def suite_pens(tables: Tables) -> dict[str, Pen]:
    """Seen thick, unseen thin, their mean bold in the colour of text."""
    pens = {}
    for place, name in enumerate(tables.seen):  # one is a plain line; several differ in dash and marker
        turn = place % len(_DASHES)
        pens[name] = Pen(name, SEEN, 3.0) if place == 0 else Pen(name, SEEN, 3.0, _DASHES[turn], _MARKERS[turn])
    for place, name in enumerate(tables.unseen):
        lap, turn = divmod(place, len(_UNSEEN))
        form = (turn + 3 * lap) % len(_UNSEEN)  # in another lap, a colour has another dash and marker
        pens[name] = Pen(name, _UNSEEN[turn], 1.3, _DASHES[form], _MARKERS[form])
    if len(tables.unseen) > 1:
        pens[MEAN] = Pen(MEAN, INK, 2.6, (), "D")
    return pens


def setting_pens(tables: Tables, series: str) -> dict[str, Pen]:
    """By order on the axis; ordinary training bold in the colour of text."""
    part = tables.within(series)
    others = [s for s in part if not s.is_reference]
    pens = {}
    for place, setting in enumerate(others):
        shade = round(place * (_RAMP - 1) / max(len(others) - 1, 1)) if len(others) > 1 else 4
        turn = place % len(_MARKERS)
        pens[setting.name] = Pen(setting.label, _RAMP_LIGHT[shade], 1.6, _DASHES[place % 4], _MARKERS[turn])
    return {s.name: Pen(called_ordinary(s), INK, 2.6, (), "o") if s.is_reference else pens[s.name] for s in part}


@dataclass(frozen=True)
class Scale:
    """Where settings lie along x."""

    places: dict[str, float]
    log: bool
    title: str

    def apply(self, axes: Axes, settings: Sequence[Setting]) -> None:
        if self.log:
            axes.set_xscale("log")
        at = [self.places[s.name] for s in settings]
        low, high = min(at), max(at)
        if self.log:
            pad = (high / low) ** 0.06
            limits = (low / pad, high * pad)
            along = [math.log(x / limits[0]) / math.log(limits[1] / limits[0]) for x in at]
        else:
            pad = 0.06 * (high - low) or 0.5
            limits = (low - pad, high + pad)
            along = [(x - limits[0]) / (limits[1] - limits[0]) for x in at]
        axes.set_xlim(*limits)
        axes.xaxis.set_major_locator(FixedLocator(at))
        axes.xaxis.set_minor_locator(NullLocator())
        if self.crowded(settings):  # two lines of names are not enough
            names = [textwrap.shorten(s.label, LONGEST, placeholder="\u2026") for s in settings]
            axes.set_xticks(at, labels=names, rotation=35, ha="right", rotation_mode="anchor")
            return
        labels, before, dropped = [], -1.0, False
        for place, setting in zip(along, settings, strict=True):
            dropped = place - before < 0.035 * (2 + len(setting.label)) and not dropped
            labels.append(f"\n{setting.label}" if dropped else setting.label)
            before = place
        axes.set_xticks(at, labels=labels)
        axes.set_xlabel(self.title)

    def crowded(self, settings: Sequence[Setting]) -> bool:
        """Whether names that lie side by side are too long, or too many, to be written in two lines."""
        longest = max(min(len(s.label), LONGEST) for s in settings)
        return any(s.number is None for s in settings) and 2 / len(settings) < 0.035 * (2 + longest)


def scale_of(tables: Tables, settings: Sequence[Setting]) -> Scale:
    """Numbers lie where they are, on a log scale where they span a factor of eight; names lie side by side."""
    numbers = [s.number for s in settings if s.number is not None]
    title = axis_title(tables.curve)
    if len(numbers) == len(settings) and len(set(numbers)) == len(numbers) and len(numbers) > 1:
        log = min(numbers) > 0 and max(numbers) / min(numbers) >= 8
        return Scale({s.name: s.number or 0.0 for s in settings}, log, title)
    return Scale({s.name: float(place) for place, s in enumerate(settings)}, False, title)


def curves(tables: Tables, series: str) -> list[Plot]:
    """Each quantity against the curve axis, and the seen gain against the unseen one."""
    settings = [s for s in tables.within(series) if s.finished]
    if not settings:
        return []
    known = {quantity for suite in (*tables.seen, *tables.unseen) for quantity in tables.told_apart(suite)}
    wanted = WITHOUT_MASK if MEAN in tables.maskless else WITH_MASK  # of draws also where real pairs have none
    plots = [_curve_plot(tables, settings, "psnr_rgb")]
    plots += [_curve_plot(tables, settings, quantity) for quantity in wanted if quantity in known]
    if tables.seen and tables.unseen:
        plots.append(_trade_plot(tables, series, settings))
    return plots


def _curve_plot(tables: Tables, settings: Sequence[Setting], quantity: str) -> Plot:
    found, pens, scale = QUANTITIES[quantity], suite_pens(tables), scale_of(tables, settings)
    lines = {suite: [tables.of(s.name, suite, quantity) for s in settings] for suite in pens}
    average = MEAN if MEAN in pens else next(iter(tables.unseen), "")
    levels = {name: tables.of(name, average, quantity).mean for name in tables.baselines}
    if quantity == "removal" and settings:
        levels["perfect"] = tables.of(settings[0].name, average, "oracle_removal").mean
    levels = {name: level for name, level in levels.items() if math.isfinite(level)}

    def draw(axes: Axes) -> None:
        at = [scale.places[s.name] for s in settings]
        for place, (suite, pen) in enumerate(pens.items()):
            shift = 0.0 if len(settings) > 1 else 0.3 * (place / max(len(pens) - 1, 1) - 0.5)
            pen.draw(axes, [x + shift for x in at], lines[suite], band=suite in (MEAN, *tables.seen))
        scale.apply(axes, settings)
        _limits(axes, [e for line in lines.values() for e in line], list(levels.values()))
        _levels(axes, levels)
        _shade_blind(axes, quantity)

    alt = _alt(found.title, quantity, settings, lines)
    return Plot(
        quantity,
        title_of(quantity),
        alt,
        draw,
        _ARROWS[found.better],
        right=0.85 if levels else 0.97,
        bottom=0.34 if scale.crowded(settings) else 0.18,
    )


def _trade_plot(tables: Tables, series: str, settings: Sequence[Setting]) -> Plot:
    pens = setting_pens(tables, series)
    points = {s.name: (tables.headlines[s.name].seen, tables.headlines[s.name].unseen) for s in settings}
    points = {name: pair for name, pair in points.items() if all(math.isfinite(e.mean) for e in pair)}

    def draw(axes: Axes) -> None:
        ends = [seen.mean for seen, _ in points.values()]
        for name, (seen, unseen) in points.items():
            pen = pens[name]
            if seen.has_interval:
                axes.hlines(unseen.mean, seen.low, seen.high, color=pen.colour, linewidth=0.9, alpha=0.6)
            if unseen.has_interval:
                axes.vlines(seen.mean, unseen.low, unseen.high, color=pen.colour, linewidth=0.9, alpha=0.6)
            axes.plot([seen.mean], [unseen.mean], pen.marker, color=pen.colour, markersize=6.5, markeredgewidth=0)
            label = next(s.label for s in settings if s.name == name)
            right = 2 * seen.mean > min(ends) + max(ends)  # a label grows towards the middle, and ends inside
            axes.annotate(
                label, (seen.mean, unseen.mean), (-5 if right else 5, 5), textcoords="offset points", fontsize=9,
                ha="right" if right else "left",
            )  # fmt: skip
        axes.margins(0.22)
        axes.set_xlabel("gain on the seen suite (dB)")
        axes.set_ylabel("mean gain on unseen suites (dB)")

    words = "; ".join(
        f"{name}: seen {display('gain_rgb', a.mean)} dB, unseen {display('gain_rgb', b.mean)} dB"
        for name, (a, b) in points.items()
    )
    return Plot(
        "trade", "Seen against unseen gain", f"Gain over the input, seen against unseen. {words}.", draw, left=0.16
    )


def along(tables: Tables, series: str, quantity: str) -> list[Plot]:
    """One quantity along training, one panel per suite and one line per setting."""
    pens = setting_pens(tables, series)
    plots = []
    names = [*([MEAN] if len(tables.unseen) > 1 else []), *tables.seen, *tables.unseen]
    every = [
        e for suite in names for name in pens for _, e in tables.along.get((name, suite, quantity), [])
    ]  # shares of the degradation have one axis
    for suite in names:
        lines = {name: tables.along[name, suite, quantity] for name in pens if (name, suite, quantity) in tables.along}
        if lines:
            plots.append(_along_plot(suite, quantity, pens, lines, every if quantity in _SHARES else None))
    return plots


def _along_plot(
    suite: str,
    quantity: str,
    pens: dict[str, Pen],
    lines: dict[str, list[tuple[int, Estimate]]],
    shared: list[Estimate] | None,
) -> Plot:
    found = QUANTITIES[quantity]

    def draw(axes: Axes) -> None:
        for name, points in lines.items():
            pens[name].draw(axes, [float(step) for step, _ in points], [e for _, e in points], band=True)
        _step_axis(axes, sorted({float(step) for points in lines.values() for step, _ in points}))
        _limits(axes, shared or [e for points in lines.values() for _, e in points], [])
        _shade_blind(axes, quantity)

    words = "; ".join(
        f"{pens[name].label}: {display(quantity, points[0][1].mean)} at step {points[0][0]:,}, "
        f"{display(quantity, points[-1][1].mean)} at step {points[-1][0]:,}"
        for name, points in lines.items()
    )
    return Plot(
        f"along-{quantity}-{suite}",
        suite[0].upper() + suite[1:],
        f"{found.title} on {suite}. {words}.",
        draw,
        title_of(quantity),
    )


def bands(tables: Tables, series: str, quantity: str) -> list[Plot]:
    """`quantity` (one of OCTAVES) octave by octave, one panel per suite and one line per setting. Only for suites that
    were judged by octaves, and of bias and deviation over several draws of a noise too."""
    pens = setting_pens(tables, series)
    plots = []
    for suite in [*([MEAN] if len(tables.unseen) > 1 else []), *tables.seen, *tables.unseen]:
        lines = {name: [tables.of(name, suite, f"{quantity}_{band}") for band in BANDS] for name in pens}
        lines = {name: line for name, line in lines.items() if any(math.isfinite(e.mean) for e in line)}
        if lines:
            plots.append(_band_plot(suite, quantity, pens, lines))
    return plots


def _band_plot(suite: str, quantity: str, pens: dict[str, Pen], lines: dict[str, list[Estimate]]) -> Plot:
    titles = [words.removeprefix("details ").removeprefix("of ") for words in BANDS.values()]

    def draw(axes: Axes) -> None:
        at = [float(place) for place in range(len(BANDS))]
        for name, line in lines.items():
            pens[name].draw(axes, at, line, band=True)
        axes.set_xlim(-0.25, len(BANDS) - 0.75)
        axes.xaxis.set_major_locator(FixedLocator(at))
        axes.set_xticklabels(titles)
        _limits(axes, [e for line in lines.values() for e in line], [0.0])
        if quantity == "retention":
            axes.axhline(0, color=MUTED, linewidth=0.8, linestyle=":")

    words = "; ".join(
        f"{pens[name].label}: "
        + ", ".join(f"{display(quantity + '_' + band, e.mean)} {title}" for band, e, title in
                    zip(BANDS, line, titles, strict=True))
        for name, line in lines.items()
    )  # fmt: skip
    return Plot(
        f"bands-{quantity}-{suite}",
        suite[0].upper() + suite[1:],
        f"{OCTAVES[quantity]} by octave on {suite}. {words}.",
        draw,
        "share left" if quantity == "retention" else "RMS",
    )


def colour_bar(axes: Axes, mesh: Any) -> Any:
    """A bar beside a map of cells, and the map without frame and ticks. Any: matplotlib's own types."""
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    bar = axes.figure.colorbar(mesh, cax=axes.inset_axes((1.02, 0.0, 0.03, 1.0)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8)
    bar.ax.grid(visible=False)
    return bar


def losses(tables: Tables, series: str) -> Plot | None:
    """Training loss of every cell, smoothed by a running mean; a colour for each setting."""
    pens = setting_pens(tables, series)
    lines: list[tuple[str, np.ndarray, np.ndarray]] = []
    for setting in tables.within(series):
        for index in setting.cells:
            log = tables.record.cells[index].log
            if log is None or not {"step", "loss"} <= set(log.columns):
                continue
            log = log[["step", "loss"]].apply(lambda column: column.astype(float)).dropna()
            log = log[log["loss"] > 0]
            if len(log) > 1:
                window = max(1, len(log) // 30)
                smooth = log["loss"].rolling(window, min_periods=1).mean().to_numpy()
                picked = np.unique(np.linspace(0, len(log) - 1, 150).astype(int))
                lines.append((setting.name, log["step"].to_numpy()[picked], smooth[picked]))
    if not lines:
        return None

    def draw(axes: Axes) -> None:
        for name, step, loss in lines:
            pen = pens[name]
            axes.plot(
                step, loss, color=pen.colour, linewidth=0.5 * pen.width, linestyle=(0, pen.dash) if pen.dash else "-"
            )
        _step_axis(axes, sorted({float(x) for _, step, _ in lines for x in (step[0], step[-1])}), log=False)
        values = np.concatenate([loss for _, _, loss in lines])
        if values.max() / values.min() > 5:
            axes.set_yscale("log")
            ticks = [
                t for t in (m * 10.0**e for e in range(-9, 4) for m in (1, 2, 5)) if values.min() <= t <= values.max()
            ]
            axes.yaxis.set_major_locator(FixedLocator(ticks))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_yticks(ticks, labels=[f"{t:g}" for t in ticks])

    ends = {name: [loss[-1] for other, _, loss in lines if other == name] for name, _, _ in lines}
    words = "; ".join(f"{pens[name].label}: {np.mean(end):.3g} at the end" for name, end in ends.items())
    return Plot("loss", "Training loss", f"Training loss, a line for each network. {words}.", draw)


def title_of(quantity: str) -> str:
    """With its unit, as the head of a panel."""
    found = QUANTITIES[quantity]
    text = _NAMES.get(quantity) or found.title[0].upper() + found.title[1:]
    return f"{text}, {found.unit}" if found.unit else text


def _alt(title: str, quantity: str, settings: Sequence[Setting], lines: dict[str, list[Estimate]]) -> str:
    ends = "; ".join(
        f"{suite}: "
        + ", ".join(f"{display(quantity, e.mean)} at {s.label}" for s, e in zip(settings, line, strict=True))
        for suite, line in lines.items()
        if any(e.defined for e in line)
    )
    return f"{title}. {ends or 'Undefined everywhere'}."


def _step_axis(axes: Axes, steps: Sequence[float], log: bool = True) -> None:
    axes.set_xlabel("training step")
    if log and len(steps) > 2 and steps[-1] / steps[0] >= 8:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        kept: list[float] = []
        for step in reversed(steps):
            if not kept or kept[-1] / step > (steps[-1] / steps[0]) ** 0.17:
                kept.append(step)
        axes.set_xticks(kept, labels=[_short(step) for step in kept])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(lambda step, _: _short(step))


def _short(step: float) -> str:
    return f"{step / 1000:g}k" if abs(step) >= 1000 else f"{step:g}"


def _limits(axes: Axes, estimates: Sequence[Estimate], levels: Sequence[float]) -> None:
    """Room for every mean and level, and for intervals up to a third of that again: wide ones are cut off."""
    means = [e.mean for e in estimates if math.isfinite(e.mean)] + list(levels)
    if not means:
        return
    low, high = min(means), max(means)
    room = 0.35 * (high - low) or 0.05 * abs(high) or 1.0
    ends = [end for e in estimates if e.has_interval for end in (e.low, e.high)]
    low, high = max(low - room, min([low, *ends])), min(high + room, max([high, *ends]))
    axes.set_ylim(low - 0.05 * (high - low or 1), high + 0.07 * (high - low or 1))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _levels(axes: Axes, levels: dict[str, float]) -> None:
    """Horizontal lines of the baselines (mean of unseen), named at the right and moved apart where they crowd."""
    low, high = axes.get_ylim()
    below = -math.inf
    for name, level in sorted(levels.items(), key=lambda item: item[1]):
        axes.axhline(level, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        below = max((level - low) / (high - low), below + 0.075)
        axes.text(1.02, below, name, transform=axes.transAxes, fontsize=8, color=MUTED, va="center")


def _shade_blind(axes: Axes, quantity: str) -> None:
    """Where next to nothing is done to the degradation."""
    if quantity not in _SHARES:
        return
    low, high = axes.get_ylim()
    start, end = (low, min(BLIND_BELOW, high)) if quantity == "removal_ratio" else (max(1 - BLIND_BELOW, low), high)
    if start < end:
        axes.axhspan(start, end, color=BLIND, alpha=0.07, linewidth=0, zorder=0)
        axes.set_ylim(low, high)


def svg(plot: Plot, prefix: str) -> str:
    """A panel for inlining: colours are the page's variables, identifiers are its own, nothing is fetched."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.5, 3.0))
        figure.patch.set_alpha(0)
        axes = figure.add_axes((plot.left, plot.bottom, plot.right - plot.left, 0.97 - plot.bottom))
        axes.patch.set_alpha(0)
        plot.draw(axes)
        return inlined(figure, prefix)


def inlined(figure: Figure, prefix: str) -> str:
    """A figure as SVG for inlining; `prefix` keeps its identifiers apart from those of others. To be called in the
    context of `STYLE` that the figure was drawn in."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = _bare(text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{prefix}-', text)
    return themed(text)


def themed(text: str) -> str:
    """With the page's variables in place of the colours that were drawn."""
    for name, (drawn, _, _) in VARIABLES.items():
        text = re.sub(drawn, f"var(--{name})", text, flags=re.IGNORECASE)
    return text


def _bare(text: str) -> str:
    """Without namespaces and size on the outermost element."""
    head, rest = text.split(">", 1)
    return re.sub(r'\s(xmlns(:\w+)?|width|height|version)="[^"]*"', "", head) + ">" + rest


def sheet(plots: Sequence[Plot], pens: Sequence[Pen], columns: int = 3) -> bytes:
    """Panels and their legend as one PNG, on white."""
    columns = min(columns, len(plots))
    lines = math.ceil(len(plots) / columns)
    with matplotlib.rc_context(STYLE):
        across = min(len(pens), 2 * columns + 1)
        wide, high, head = 4.4, 3.3, 0.05 + 0.2 * max(2, math.ceil(len(pens) / max(across, 1)))
        figure = Figure(figsize=(wide * columns, high * lines + head))
        tall = high / (high * lines + head)
        for place, plot in enumerate(plots):
            row, column = divmod(place, columns)
            bottom = 1 - head / (high * lines + head) - (row + 1) * tall
            corner = ((column + plot.left) / columns, bottom + (plot.bottom + 0.02) * tall)
            axes = figure.add_axes((*corner, (plot.right - plot.left) / columns, (0.81 - plot.bottom) * tall))
            plot.draw(axes)
            axes.set_title(plot.title, pad=17 if plot.note else None)
            axes.text(0, 1.02, plot.note, transform=axes.transAxes, fontsize=8.5, color=MUTED, va="bottom")
        handles = [Line2D([], [], label=pen.label, **pen.style()) for pen in pens]
        if handles:
            figure.legend(handles=handles, loc="upper left", ncols=across, frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
