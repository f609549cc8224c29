"""How complex folders and degradations are, as one self-contained page, one sheet and one table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from unseen.complexity.record import MEASURES, Survey, balance
from unseen.report import figures
from unseen.report.answer import listed
from unseen.report.pictures import encoded, sheet
from unseen.report.template import rendered, typographic, write

SHOWN = 4
"""How many of the simplest, and of the most complex, pictures of a survey are shown."""

NOISE = 0.05
"""Balances this close to 1, relatively, are called even: seeds differ by less."""

UNLEARNED = 0.01
"""A degradation whose code length falls by less than this share while it is learned is called chance."""

Pixels = NDArray[np.uint8]

_COLOURS = ("seen", "u0", "u1", "u2", "u3", "u6", "u5", "u7")
_DASHES = ((), (5.0, 1.6), (2.0, 1.4), (6.0, 1.5, 1.5, 1.5))
_BINS = 24


@dataclass(frozen=True)
class Extremes:
    """The pictures at both ends of a survey, from the simplest: (name, its compression in bits per pixel, pixels)."""

    survey: Survey
    simplest: tuple[tuple[str, float, Pixels], ...]
    complex: tuple[tuple[str, float, Pixels], ...]


@dataclass(frozen=True)
class Found:
    """All that a page shows. `size`: what images are cut to, pixels; `notes`: what a reader must know besides."""

    folders: tuple[Survey, ...]
    degradations: tuple[Survey, ...]
    extremes: tuple[Extremes, ...]
    size: int
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def surveys(self) -> tuple[Survey, ...]:
        return self.folders + self.degradations

    @property
    def drawn(self) -> tuple[Survey, ...]:
        """The folders, and the degradations on the first of them: more lines could not be told apart."""
        return self.folders + tuple(one for one in self.degradations if one.on == self.folders[0].name)

    def content_of(self, degradation: Survey) -> Survey:
        """The folder that a degradation was laid on."""
        return next(folder for folder in self.folders if folder.name == degradation.on)


def shown(survey: Survey) -> tuple[list[str], list[str]]:
    """Names of the pictures to show: the simplest and the most complex, no picture twice."""
    names = survey.ordered()["image"].tolist()
    some = min(SHOWN, len(names) // 2) or 1
    return names[:some], names[max(some, len(names) - some) :]


def sentences(found: Found) -> list[str]:
    """What was found, in words: the balance of each pair, or the order of the folders."""
    said = []
    pairs = [(found.content_of(one), one) for one in found.degradations]
    if len(pairs) == 1:
        said += [_weighed(*pairs[0])]
    elif pairs:
        ratios = [balance(*pair) for pair in pairs]
        shortcuts = sum(ratio > 1 + NOISE for ratio in ratios)
        said.append(
            f"In {shortcuts} of {len(pairs)} pairs the degradation is simpler to learn than the images: there, "
            "ordinary training tends to fit the degradation."
        )
        for folder in found.folders:
            laid = [(one, ratio) for (content, one), ratio in zip(pairs, ratios, strict=True) if content is folder]
            against = listed([f"{_number(ratio, 2)} against {one.name}" for one, ratio in laid])
            said.append(f"The balance of {folder.name} is {against}.")
        chance = list(dict.fromkeys(one.name for _, one in pairs if _is_chance(one)))
        if chance:
            said.append(f"{listed(chance)}: what this costs is chance, in which there is hardly anything to learn.")
    if len(found.folders) > 1:
        order = sorted(found.folders, key=lambda survey: survey.learned.bits)
        said.append(
            "From the simplest to the most complex content, in bits per value that learning it costs: "
            + listed([f"{survey.name} {survey.learned.bits:.2f}" for survey in order]) + "."
        )  # fmt: skip
    elif not found.degradations:
        one = next(iter(found.folders))
        said.append(
            f"Learning to predict {one.name} costs {one.learned.bits:.2f} bits per value, and a lossless coder pays "
            f"{_number(one.median('compression'), 2)} bits per pixel for half of its images or more."
        )
    if not found.degradations:
        said.append("No degradation was named (--degradation), so there is no balance.")
    return said


def _weighed(content: Survey, degradation: Survey) -> str:
    """What the balance of one pair says."""
    ratio = balance(content, degradation)
    if math.isnan(ratio):
        return f"{degradation.name} changes nothing in {content.name}: there is no balance."
    said = (
        f"The balance of {content.name} against {degradation.name} is {ratio:.2f}: {content.learned.bits:.2f} bits per "
        f"value to learn the images, {degradation.learned.bits:.2f} to learn what the degradation does to them. "
    )
    if ratio > 1 + NOISE:
        return said + "The degradation is the simpler of the two: ordinary training tends to fit it."
    said += "Neither is the simpler." if ratio >= 1 / (1 + NOISE) else "The images are the simpler of the two."
    if _is_chance(degradation):
        said += " But what the degradation costs is chance, in which there is hardly anything to learn."
    return said


def _is_chance(degradation: Survey) -> bool:
    """It costs something, and learning hardly makes it cheaper: noise."""
    return 0 <= degradation.learned.learning < UNLEARNED * degradation.learned.bits


def lines(found: Found) -> tuple[list[str], list[list[str]]]:
    """Heads and lines of the table: medians over the pictures of every survey, what was learned, the balance."""
    heads = [
        "",
        "pictures",
        *(measure.title for measure in MEASURES.values()),
        "Code length",
        "of it learning",
        "Balance",
    ]
    body = []
    for survey in found.surveys:
        medians = [_number(survey.median(name), measure.decimals) for name, measure in MEASURES.items()]
        learned = [f"{survey.learned.bits:.2f}", f"{survey.learned.learning:.2f}"]
        ratio = _number(balance(found.content_of(survey), survey), 2) if survey.on else ""
        body.append([survey.title, f"{len(survey.table):,}", *medians, *learned, ratio])
    return heads, body


def units() -> list[str]:
    """Below the heads of the table."""
    return ["", "", *(measure.unit for measure in MEASURES.values()), "bits per value", "bits per value", "ratio"]


def _number(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"


def table(found: Found) -> pd.DataFrame:
    """A line per picture, of all surveys: `survey`, `on`, and the columns of their tables."""
    parts = []
    for survey in found.surveys:
        part = survey.table.copy()
        part.insert(0, "survey", survey.name)
        part.insert(1, "on", survey.on)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def pens(found: Found) -> list[figures.Pen]:
    """One for each survey; degradations are dashed."""
    drawn = []
    for place, survey in enumerate(found.drawn):
        turn = place % len(_COLOURS)
        dash = _DASHES[1 + place % 3] if survey.on else ()
        colour = figures.VARIABLES[_COLOURS[turn]][0]
        drawn.append(figures.Pen(survey.title, colour, 1.9, dash, ""))
    return drawn


def panels(found: Found) -> list[figures.Plot]:
    """The loss curves, the scales, and a histogram of each measure."""
    return [_curves(found), _scales(found), *(_histogram(found, name) for name in MEASURES)]


def _curves(found: Found) -> figures.Plot:
    def draw(axes: Axes) -> None:
        for pen, survey in zip(pens(found), found.drawn, strict=True):
            curve = np.array(survey.learned.curve)
            axes.plot(np.arange(1, len(curve) + 1), _smooth(curve), **_style(pen))
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0)

    said = ", ".join(f"{survey.title} {survey.learned.bits:.2f}" for survey in found.drawn)
    alt = f"Bits per value over the steps of learning. Means: {said}."
    return figures.Plot(
        "learned", "What learning costs: the mean height is the code length", alt, draw, "bits per value"
    )


def _smooth(curve: NDArray[np.float64], over: int = 5) -> NDArray[np.float64]:
    """Means over so many steps, fewer at the ends."""
    padded = np.pad(curve, over // 2, mode="edge")
    return np.convolve(padded, np.ones(over) / over, mode="valid")


def _scales(found: Found) -> figures.Plot:
    def draw(axes: Axes) -> None:
        sides: set[int] = set()
        for pen, survey in zip(pens(found), found.drawn, strict=True):
            scales = survey.scales()
            sides |= scales.keys()
            axes.plot(list(scales), list(scales.values()), marker="o", markersize=3.2, **_style(pen))
        if sides:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(sides), labels=[str(side) for side in sorted(sides)])
            axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("side of a cell (pixels)")

    said = "; ".join(
        f"{survey.title} " + ", ".join(f"{side}: {value:.4f}" for side, value in survey.scales().items())
        for survey in found.drawn
    )
    title = "Structural complexity, scale by scale"
    return figures.Plot("scales", title, f"{title}. {said}.", draw, "means", left=0.15)


def _histogram(found: Found, name: str) -> figures.Plot:
    measure = MEASURES[name]
    values = [survey.table[name].to_numpy(np.float64) for survey in found.drawn]
    values = [array[np.isfinite(array)] for array in values]

    def draw(axes: Axes) -> None:
        together = np.concatenate(values)
        if len(together):
            low, high = float(together.min()), float(together.max())
            edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
            for pen, array in zip(pens(found), values, strict=True):
                if len(array):
                    axes.stairs(np.histogram(array, edges)[0] / len(array), edges, **_style(pen), fill=False)
        axes.set_xlabel(measure.unit)
        axes.set_ylim(bottom=0)

    said = ", ".join(f"{survey.title} {_number(survey.median(name), measure.decimals)}" for survey in found.drawn)
    more = "more complex to the right" if measure.more == "higher" else "more complex to the left"
    return figures.Plot(name, measure.title, f"Histogram of {measure.title}. Medians: {said}.", draw, more)


def _style(pen: figures.Pen) -> dict[str, Any]:
    """Any: what matplotlib takes is of several types."""
    return {"color": pen.colour, "linewidth": pen.width, "linestyle": (0, pen.dash) if pen.dash else "-"}


def draw_sheet(found: Found) -> bytes:
    """The simplest pictures, then the most complex, a line for each survey. PNG."""
    heads = [f"simplest {n + 1}" if n else "simplest" for n in range(SHOWN)]
    heads += [f"most complex {SHOWN - n}" if n < SHOWN - 1 else "most complex" for n in range(SHOWN)]
    body = []
    for ends in found.extremes:
        left: list[Pixels | None] = [picture for _, _, picture in ends.simplest]
        right: list[Pixels | None] = [picture for _, _, picture in ends.complex]
        gap: list[Pixels | None] = [None] * (2 * SHOWN - len(left) - len(right))
        body.append((ends.survey.name, left + gap + right))
    return sheet(heads, body, tile=150)


def write_complexity(found: Found, folder: Path | str) -> Path:
    """Write `complexity.html` (one file, nothing fetched), `complexity.csv` (a line per picture), `learned.csv` (the
    loss curves) and `complexity.png` (the simplest and the most complex). Returns the path of the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "complexity.csv", table(found).to_csv(index=False, lineterminator="\n").encode())
    curves = pd.DataFrame({survey.title: survey.learned.curve for survey in found.surveys})
    curves.insert(0, "step", range(1, len(curves) + 1))
    write(folder / "learned.csv", curves.to_csv(index=False, lineterminator="\n").encode())
    write(folder / "complexity.png", draw_sheet(found))
    write(folder / "complexity.html", html(found).encode())
    return folder / "complexity.html"


def html(found: Found) -> str:
    """The page as text."""
    heads, body = lines(found)
    pictures = _inlined(found.extremes)
    drawings = [(plot, Markup(figures.svg(plot, f"c{n}"))) for n, plot in enumerate(panels(found))]
    names = ", ".join(survey.name for survey in found.folders)
    return rendered(
        "complexity.html.jinja",
        title=f"Complexity of {names}",
        said=sentences(found),
        found=found,
        heads=list(zip(heads, units(), strict=True)),
        lines=body,
        drawings=drawings,
        pens=pens(found),
        pictures=pictures,
        measures=MEASURES,
    )


def _inlined(extremes: Sequence[Extremes]) -> list[tuple[str, list[tuple[str, list[tuple[str, str, str]]]]]]:
    """For every survey its title, and for both of its ends the pictures: name, what it costs, the picture."""
    uris = iter(encoded([picture for ends in extremes for end in (ends.simplest, ends.complex) for *_, picture in end]))
    return [
        (
            ends.survey.title,
            [
                (label, [(name, typographic(f"{bits:.2f}"), next(uris)) for name, bits, _ in end])
                for label, end in (("simplest", ends.simplest), ("most complex", ends.complex))
                if end
            ],
        )
        for ends in extremes
    ]
