"""What linear probes say of one or several networks, as one self-contained page, one picture and one table."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from unseen.evaluation.probes import Probed
from unseen.report import figures
from unseen.report.answer import listed
from unseen.report.template import rendered, write

TITLES = {
    "clean luma": "Content: the clean luma",
    "clean edges": "Content: its edges",
    "change": "Degradation: what it changed",
}
"""Targets of every pixel, which are drawn first."""

_COLOURS = ("ink", "seen", "u0", "u1", "u2", "u3", "u6", "u5")
_DASHES = ((), (5.0, 1.6), (2.0, 1.4), (6.0, 1.5, 1.5, 1.5))


def sentences(found: Sequence[Probed]) -> list[str]:
    """What the features of each network tell, where they tell it best."""
    said = []
    for one in found:
        parts = []
        for target, words in (("change", "what the degradation changed"), ("clean edges", "the clean edges")):
            best = one.best(target)
            start = dict(one.line(target)).get(0.0)
            if best is not None and start is not None:
                parts.append(f"{words} {best.r2:.2f} at {best.layer} (the input: {start:.2f})")
        if parts:
            said.append(f"{one.model}: of every pixel its features tell {listed(parts)}.")
        parameters = {line.target for line in one.probes if line.kind == "parameter"}
        told = [best for target in sorted(parameters) if (best := one.best(target)) is not None and best.r2 >= 0.5]
        if told:
            named = listed([f"{line.target} {line.r2:.2f}" for line in sorted(told, key=lambda line: -line.r2)[:6]])
            said.append(f"Of the degradation's parameters they tell at least half of {named}.")
        elif parameters:
            said.append("Of no parameter of the degradation do they tell half.")
    said.append("All as R\u00b2 on patches that the probes were not fitted to: 1 is all, 0 nothing.")
    return said


def table(found: Sequence[Probed]) -> pd.DataFrame:
    """A line per model, layer and target."""
    return pd.DataFrame([{"model": one.model, **vars(line)} for one in found for line in one.probes])


def pens(found: Sequence[Probed]) -> list[figures.Pen]:
    """One for each model."""
    return [
        figures.Pen(one.model, figures.VARIABLES[_COLOURS[place % len(_COLOURS)]][0], 1.9, _DASHES[place % 4], "")
        for place, one in enumerate(found)
    ]


def panels(found: Sequence[Probed]) -> list[figures.Plot]:
    """R^2 along depth, a panel for every target and a line for every model."""
    targets = dict.fromkeys(line.target for one in found for line in one.probes)
    ordered = [*(target for target in TITLES if target in targets), *(t for t in targets if t not in TITLES)]
    return [_panel(target, found) for target in ordered]


def _panel(target: str, found: Sequence[Probed]) -> figures.Plot:
    lines = [one.line(target) for one in found]

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=figures.MUTED, linewidth=0.8, linestyle=":")
        for pen, line in zip(pens(found), lines, strict=True):
            dash = (0, pen.dash) if pen.dash else "-"
            heights = [max(-0.25, r2) for _, r2 in line]
            axes.plot([x for x, _ in line], heights, color=pen.colour, linewidth=pen.width, linestyle=dash)
        axes.set_ylim(-0.27, 1.03)
        axes.set_xticks([0, 0.5, 1], labels=["input", "half-way", "last layer"])

    words = "; ".join(
        f"{one.model}: " + ", ".join(f"{r2:.2f}" for _, r2 in line) for one, line in zip(found, lines, strict=True)
    )
    title = TITLES.get(target, f"Parameter: {target}")
    return figures.Plot(f"probe-{target}", title, f"R squared of {target} along depth. {words}.", draw, "R\u00b2")


def write_probes(found: Sequence[Probed], folder: Path | str) -> Path:
    """Write `probe.html` (one file, nothing fetched), `probe.png` and `probe.csv`. Returns the path of the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "probe.csv", table(found).to_csv(index=False, lineterminator="\n").encode())
    write(folder / "probe.png", figures.sheet(panels(found), pens(found)))
    write(folder / "probe.html", html(found).encode())
    return folder / "probe.html"


def html(found: Sequence[Probed]) -> str:
    """The page as text."""
    return rendered(
        "probe.html.jinja",
        title=", ".join(one.model for one in found),
        said=sentences(found),
        laid=list(dict.fromkeys(one.degradation for one in found)),
        pens=pens(found),
        drawings=[(plot, Markup(figures.svg(plot, f"p{n}"))) for n, plot in enumerate(panels(found))],
        layers=[(one.model, _lines(one)) for one in found],
    )


def _lines(one: Probed) -> tuple[list[str], list[list[str]]]:
    """Heads and lines of a model's table: a line for every layer."""
    targets = list(dict.fromkeys(line.target for line in one.probes))
    known = {(line.depth, line.target): line for line in one.probes}
    lines = []
    for depth in range(one.depths):
        here = [known.get((depth, target)) for target in targets]
        first = next((line for line in here if line is not None), None)
        if first is not None:
            lines.append([first.layer, str(first.channels), *("-" if e is None else f"{e.r2:.2f}" for e in here)])
    return ["layer", "features", *targets], lines
