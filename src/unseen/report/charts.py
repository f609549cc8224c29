"""Charts of a verdict: models down, suites across, a dot with its interval in each; seen and unseen side by side."""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from unseen.report.answer import signed
from unseen.report.comparison import SEEN, Comparison, Place, Scope
from unseen.report.figures import INK, LINE, MUTED, STYLE, VARIABLES, Pen, inlined
from unseen.report.sentences import REMOVED, word_on
from unseen.report.tables import Estimate
from unseen.results import BASELINES
from unseen.rows import display

WORD_COLOURS = {"removes": "u1", "leaves": "u3", "harms": "u0"}
"""Variables of the page."""

COLOURS = {said: VARIABLES[name][0] for said, name in WORD_COLOURS.items()} | {"": MUTED}
_MARKERS = {"removes": "o", "leaves": "s", "harms": "X", "": "d"}

LARGEST = 40
"""Models that a chart shows; the tables have all."""

_ACROSS = 6

PENS = tuple(Pen(said, COLOURS[said], 0.0, (), _MARKERS[said]) for said in ("removes", "leaves", "harms"))
"""For the legend: words have a marker each, so that colour is not alone."""


@dataclass(frozen=True)
class Chart:
    """`quantity` is "gain" or "removed". `alt` says in words what it shows."""

    quantity: str
    title: str
    note: str
    alt: str


def charts(found: Comparison) -> list[Chart]:
    """The charts that there is something to show on."""
    made = []
    for quantity, title, note in (
        ("gain", "Gain over the input, dB", "above 0 the restored image is better than what went in"),
        ("removed", "Removal ratio", "1 took the degradation out, 0 did nothing"),
    ):
        known = [
            f"{who} on {_title(found, place)}: {_figure(quantity, found.of(who, place, quantity))}"
            for who in (entrant.label for entrant in found.entrants[:LARGEST])
            for place in places(found)
            if found.of(who, place, quantity).defined
        ]
        if known:
            made.append(Chart(quantity, title, note, f"{title}. {'; '.join(known)}."))
    return made


def places(found: Comparison) -> list[Place]:
    """Across: what each has seen, the headline, and every suite of degraded images."""
    across: list[Place] = []
    if any(found.of(entrant.label, SEEN, "gain").defined for entrant in found.entrants):
        across.append(SEEN)
    if len(found.headline.suites) > 1:
        across.append(found.headline)
    across += [info.name for info in found.suites if info.group != "clean"]
    only = {entrant.of_group("seen") for entrant in found.entrants}
    if len(only) == 1 and len(next(iter(only))) == 1:  # the mean over one suite is that suite
        across = [place for place in across if place not in next(iter(only))]
    return across


def _title(found: Comparison, place: Place) -> str:
    if place == SEEN:
        return "seen"
    return f"mean of {place.name}" if isinstance(place, Scope) else str(place)


def _figure(quantity: str, estimate: Estimate) -> str:
    text = display("gain_rgb" if quantity == "gain" else "removal_ratio", estimate.mean)
    return f"{text} ({signed(estimate.low, 2)} to {signed(estimate.high, 2)})" if estimate.has_interval else text


def _drawn(found: Comparison, chart: Chart, titled: bool = False) -> Figure:
    """Inches are chosen so that text has its size on a page 1,180 pixels wide."""
    across = places(found)
    who = [entrant.label for entrant in found.entrants[:LARGEST]]
    who += [name for name in BASELINES if any(found.of(name, place, chart.quantity).defined for place in across)]
    models = len(found.entrants[:LARGEST])
    lines = [across[start : start + _ACROSS] for start in range(0, len(across), _ACROSS)]
    wide, left = 14.0, min(2.9, 0.6 + 0.085 * max(len(_short(label)) for label in who))
    tall, head, foot = 0.27 * len(who) + 0.35, 0.42, 0.42
    top = 0.75 if titled else 0.0
    high = top + len(lines) * (tall + head + foot)
    figure = Figure(figsize=(wide, high))
    if titled:
        figure.suptitle(f"{chart.title} ({chart.note})", x=0.01, y=1 - 0.12 / high, ha="left", va="top", fontsize=12)
        handles = [_handle(pen) for pen in PENS]
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.005, 1 - 0.32 / high), ncols=3, frameon=False
        )
    else:
        figure.patch.set_alpha(0)
    limits = _limits(found, chart.quantity, who, across)
    cell = (wide - left - 0.15) / min(_ACROSS, len(across))
    for row, line in enumerate(lines):
        bottom = high - top - (row + 1) * (tall + head + foot) + foot
        for column, place in enumerate(line):
            corner = ((left + column * cell) / wide, bottom / high)
            axes = figure.add_axes((*corner, (cell - 0.2) / wide, tall / high))
            axes.patch.set_alpha(0)
            _panel(axes, found, chart.quantity, place, who, models, limits)
            if column:
                axes.tick_params(labelleft=False)
    return figure


def _handle(pen: Pen) -> Line2D:
    return Line2D([], [], label=pen.label, **{**pen.style(), "markersize": 7})


def _panel(
    axes: Axes,
    found: Comparison,
    quantity: str,
    place: Place,
    who: Sequence[str],
    models: int,
    limits: tuple[float, float],
) -> None:
    low, high = limits
    axes.set_xlim(low, high)
    axes.set_ylim(len(who) - 0.4, -0.6)
    axes.grid(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    for level in (0.0, 1.0) if quantity == "removed" else (0.0,):
        if low <= level <= high:
            axes.axvline(level, color=MUTED, linewidth=1.0, zorder=1)
    if quantity == "removed" and low < REMOVED < high:
        axes.axvline(REMOVED, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    if models < len(who):
        axes.axhline(models - 0.5, color=LINE, linewidth=0.9, zorder=0)
    for line, name in enumerate(who):
        estimate = found.of(name, place, quantity)
        if not estimate.defined:
            axes.text(0.5, line, "-", transform=axes.get_yaxis_transform(), color=MUTED, ha="center", va="center")
            continue
        said = word_on(found, name, place)
        knows = line < models
        colour = COLOURS[said] if knows else MUTED
        at = min(max(estimate.mean, low), high)
        if estimate.has_interval:
            axes.hlines(line, max(estimate.low, low), min(estimate.high, high), color=colour, linewidth=1.6, zorder=2)
        marker = _MARKERS[said]
        if at != estimate.mean:  # it lies outside the panel
            marker = ">" if estimate.mean > high else "<"
        axes.plot([at], [line], marker, color=colour, markersize=7 if knows else 5, markeredgewidth=0, clip_on=False)
    leaky = {entrant.label for entrant in found.entrants if entrant.leaks}
    names = [f"{_short(name, 22)} (leaks)" if name in leaky else _short(name) for name in who]
    axes.set_yticks(range(len(who)), labels=names)
    for label, name in zip(axes.get_yticklabels(), who, strict=True):
        label.set_color(INK if name not in BASELINES else MUTED)
        label.set_fontweight("bold" if name == found.reference and len(found.entrants) > 1 else "normal")
    axes.set_title(
        _short(_title(found, place), 26), color=VARIABLES[_colour(found, place)][0], fontsize=9.5, loc="left"
    )


def _colour(found: Comparison, place: Place) -> str:
    """Of a panel's title: seen, unseen, or neither."""
    if isinstance(place, Scope):
        return "seen" if place == SEEN else "u0"
    return {"seen": "seen", "unseen": "u0"}.get(found.info(place).group, "muted")


def _limits(found: Comparison, quantity: str, who: Sequence[str], across: Sequence[Place]) -> tuple[float, float]:
    """One scale for all panels: they are to be compared. Far outliers are cut off, and drawn as arrows."""
    values = [found.of(name, place, quantity).mean for name in who for place in across]
    known = sorted(value for value in values if math.isfinite(value))
    if quantity == "removed":
        low, high = min([-0.1, *known]), max([1.1, *known])
        return max(low, -1.0), min(high, 2.0)
    ends = [end for name in who for place in across for end in _ends(found.of(name, place, quantity))]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    low, high = max(low, -15.0), min(high, 25.0)
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def _ends(estimate: Estimate) -> list[float]:
    return [end for end in (estimate.mean, estimate.low, estimate.high) if math.isfinite(end)]


def _short(text: str, length: int = 30) -> str:
    return text if len(text) <= length else text[: length - 1] + "\u2026"


@contextmanager
def _styled() -> Iterator[None]:
    """Names may be in any script: where the font on paper has no such letters, boxes stand for them."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support", category=UserWarning)
        yield


def svg(found: Comparison, chart: Chart) -> str:
    """For inlining in the page, in the page's colours."""
    with _styled():
        return inlined(_drawn(found, chart), f"chart-{chart.quantity}")


def png(found: Comparison, chart: Chart) -> bytes:
    """On white, with its title."""
    with _styled():
        figure = _drawn(found, chart, titled=True)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
