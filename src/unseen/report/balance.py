"""What a search for balance tried, and why it chose what it chose, as one self-contained page."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from unseen.balance.record import LIGHTEST, Balance, Trial
from unseen.report import figures
from unseen.report.answer import count, listed
from unseen.report.template import rendered, write

DIALS = {
    "count": ("Backgrounds", "how many images the network is trained on"),
    "widening": ("Widening", "how far the degradation goes from narrow (0) to wide (1)"),
    "factors": ("Factors at once", "in how many of its factors a sample is widened"),
    "whole": ("Share of whole", "of the widened samples, in all factors at once all the same"),
    "narrow": ("Share of narrow", "of the samples that meet the narrow degradation all the same"),
    "until": ("Widens until", "share of the steps over which it widens; 0: wide from the first"),
    "removal": ("Weight of removal", "of the loss where the degradation is, against 1 elsewhere"),
    "power": ("Power of the loss", "of each image's: below 1, faint degradations count for more"),
    "clean": ("Share of clean", "of the samples that are not degraded"),
}
"""Dials by their name: a title, and what they turn."""

MATTERS = 0.5
"""Rank correlation from which a dial is said to matter; below that, trials of this number scatter by chance."""


def dials(found: Balance) -> dict[str, tuple[str, str]]:
    """`DIALS`, and the weights of the parts of a mixture of backgrounds, where there is one."""
    parts = found.bounds.get("experiment", {}).get("backgrounds", {}).get("parts") or ()
    what = "how often a sample is from that part of the backgrounds, against the others"
    weights = {
        f"weight {place}": (f"Weight of {Path(part.get('source', str(place))).name}", what)
        for place, part in enumerate(parts)
    }
    return {**DIALS, **weights}


def sentences(found: Balance) -> list[str]:
    """What was chosen, what it won, and how far to trust it."""
    best = found.best
    if best is None:
        return ["No trial is finished yet: run the same command again to go on."]
    number, pruned = len(found.trials), sum(trial.state == "pruned" for trial in found.trials)
    if best.ordinary:
        said = [f"Of {count(number, 'trial')}, none does better than ordinary training on what was held out."]
    else:
        said = [
            f"Of {count(number, 'trial')} ({pruned} ended early), number {best.number} is the best: "
            f"{best.value or 0:+.2f} dB over ordinary training on {count(len(found.suites), 'degradation')} held out "
            f"of the bounds. It has {_in_words(best, found)}."
        ]
        ordinary = next((trial for trial in found.complete if trial.ordinary), None)
        if ordinary is not None and "narrow" in best.psnr and "narrow" in ordinary.psnr:
            lost = best.psnr["narrow"] - ordinary.psnr["narrow"]
            said.append(f"On the narrow degradation, which both have met, it has {lost:+.2f} dB.")
    known, ranks = dials(found), importance(found)
    told = [f"{known[dial][0].lower()} {rank:+.2f}" for dial, rank in ranks.items() if abs(rank) >= MATTERS]
    if told:
        said.append(f"Rank correlation of the value with the dials, where it is at least {MATTERS:g}: {listed(told)}.")
    if found.agreement is not None:
        said.append(
            f"The guess from complexity alone ranked the {count(len(found.complete), 'finished trial')} with a rank "
            f"correlation of {found.agreement:+.2f} (1: as they came out; 0: no better than chance)."
        )
    said.append(
        "One seed, and a choice after the fact: train the experiment with several seeds, and judge it on tests."
    )
    return said


def _in_words(trial: Trial, found: Balance) -> str:
    params = trial.params
    said = []
    if "count" in params:
        said.append(count(int(params["count"]), "background"))
    widening = params.get("widening", 0.0)
    said.append(f"a degradation widened by {widening:.0%}")
    if widening > 0 and "factors" in params:
        said[-1] += f" in {count(int(params['factors']), 'factor')} at once"
        if params.get("whole", 0) > 0.005:
            said.append(f"{params['whole']:.0%} of what is widened in all factors at once")
    if widening > 0 and params.get("narrow", 0) > 0.005:
        said.append(f"{params['narrow']:.0%} of the samples left narrow")
    if widening > 0 and params.get("until", 0) > 0.005:
        said.append(f"widening over the first {params['until']:.0%} of the steps")
    if abs(params.get("removal", 1.0) - 1) > 0.005:
        said.append(f"a weight of {params['removal']:.2f} on removal")
    if abs(params.get("power", 1.0) - 1) > 0.005:
        said.append(f"each image's loss to the power of {params['power']:.2f}")
    if params.get("clean", 0) > 0.005:
        said.append(f"{params['clean']:.0%} clean samples")
    weights = {title.removeprefix("Weight of "): params[key] for key, (title, _) in dials(found).items()
               if key.startswith("weight ") and key in params}  # fmt: skip
    if weights:
        total = sum(weights.values())
        said.append("samples " + listed([f"{value / total:.0%} from {name}" for name, value in weights.items()]))
    return listed(said)


def importance(found: Balance) -> dict[str, float]:
    """Rank correlation (Spearman) of the value with each dial that varied, over complete trials, if at least six."""
    frame = table(found)
    frame = frame[frame["state"] == "complete"]
    if len(frame) < 6:
        return {}
    ranks = frame[["value", *(dial for dial in dials(found) if dial in frame)]].rank()
    found_ = {dial: float(ranks["value"].corr(ranks[dial])) for dial in ranks if dial != "value"}
    return {str(dial): rank for dial, rank in found_.items() if math.isfinite(rank)}


def table(found: Balance) -> pd.DataFrame:
    """A line per trial: number, state, value, dials, guess, dB by suite, seconds."""
    lines = []
    for trial in found.trials:
        psnr = {f"psnr {suite}": value for suite, value in trial.psnr.items()}
        lines.append(
            {"trial": trial.number, "state": trial.state, "value": trial.value, **trial.params,
             "predicted": trial.predicted, "step": trial.step, "seconds": trial.seconds,
             "experiment": trial.experiment, **psnr}
        )  # fmt: skip
    return pd.DataFrame(lines)


def panels(found: Balance) -> list[figures.Plot]:
    """The value against each dial that varied, and against the guess."""
    done = found.complete
    plots = []
    for dial, (title, what) in dials(found).items():
        pairs = [(float(t.params[dial]), t.value or 0.0, t is found.best) for t in done if dial in t.params]
        if len({x for x, *_ in pairs}) > 1:
            plots.append(_scatter(dial, title, what, pairs, log=dial in ("count", "removal")))
    guessed = [(t.predicted, t.value or 0.0, t is found.best) for t in done if t.predicted is not None]
    if len(guessed) > 3:
        what = "balance from complexity alone: 0 is level"
        plots.append(_scatter("predicted", "The guess", what, guessed, log=False))
    return plots


BELOW = 1.5
"""A trial that loses more than this times what the best one wins is drawn at the edge: the others are to be seen."""


def _scatter(key: str, title: str, what: str, pairs: list[tuple[float, float, bool]], log: bool) -> figures.Plot:
    floor = -BELOW * max([1.0, *(y for _, y, _ in pairs)])
    lost = sum(y < floor for _, y, _ in pairs)

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=figures.MUTED, linewidth=0.8, linestyle=":")
        for x, y, best in pairs:
            colour, size = (figures.SEEN, 9) if best else (figures.MUTED, 5)
            marker = "D" if best else "o" if y >= floor else "v"
            axes.plot([x], [max(y, floor)], marker, color=colour, markersize=size, markeredgewidth=0, alpha=0.85)
        if log:
            axes.set_xscale("log")
            values = sorted({x for x, *_ in pairs})
            ticks = [values[0], values[len(values) // 2], values[-1]]
            axes.set_xticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
            axes.minorticks_off()
        axes.margins(0.08)
        axes.set_xlabel(what)

    words = "; ".join(f"{x:.3g}: {y:+.2f} dB" for x, y, _ in sorted(pairs))
    note = "dB over ordinary training" + (f"; {lost} lower, at the edge" if lost else "")
    return figures.Plot(f"balance-{key}", title, f"Value over {what}. {words}.", draw, note)


def _lines(found: Balance) -> tuple[list[str], list[dict[str, Any]]]:
    """Heads and lines of the table of trials, the best first, those that ended early last."""
    known = dials(found)
    turned = [dial for dial in known if any(dial in trial.params for trial in found.trials)]
    heads = ["trial", "dB over ordinary", *(known[dial][0] for dial in turned), "guess", "narrow, dB", "held out, dB"]
    order = {"complete": 0, "running": 1, "pruned": 2}
    ranked = sorted(found.trials, key=lambda t: (order.get(t.state, 3), -(t.value or 0.0), t.number))
    lines = []
    for trial in ranked:
        held = [value for suite, value in trial.psnr.items() if suite in found.suites]
        ended = {"complete": "", "failed": "diverged"}.get(trial.state, f"at step {trial.step:,}")
        note = "ordinary training" if trial.ordinary else ended
        lines.append(
            {
                "head": str(trial.number), "note": note, "best": trial is found.best,
                "entries": [
                    _number(trial.value, "+.2f"),
                    *(_number(trial.params.get(dial), ".0f" if dial == "count" else ".2f") for dial in turned),
                    _number(trial.predicted, ".2f"),
                    _number(trial.psnr.get("narrow"), ".2f"),
                    _number(sum(held) / len(held) if held else None, ".2f"),
                ],
            }
        )  # fmt: skip
    return heads, lines


def _suite_lines(found: Balance) -> list[list[str]]:
    ordinary = next((trial for trial in found.complete if trial.ordinary), None)
    best = found.best
    lines = []
    for suite, words in found.suites.items():
        before = None if ordinary is None else ordinary.psnr.get(suite)
        after = None if best is None else best.psnr.get(suite)
        won = None if before is None or after is None else after - before
        lines.append([suite, words, _number(before, ".2f"), _number(after, ".2f"), _number(won, "+.2f")])
    return lines


def _number(value: float | int | None, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def write_page(found: Balance, folder: Path | str) -> Path:
    """Write `report.html` (one file, nothing fetched) and `trials.csv`. Returns the path of the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "trials.csv", table(found).to_csv(index=False, lineterminator="\n").encode())
    write(folder / "report.html", html(found).encode())
    return folder / "report.html"


def html(found: Balance) -> str:
    """The page as text."""
    heads, lines = _lines(found)
    bounds = found.bounds
    within = [(*DIALS[d], *bounds[d]) for d in DIALS if isinstance(bounds.get(d), list | tuple)]
    within += [(*words, LIGHTEST, 1) for dial, words in dials(found).items() if dial not in DIALS]
    drawings = [(plot, Markup(figures.svg(plot, f"b{n}"))) for n, plot in enumerate(panels(found))]
    return rendered(
        "balance.html.jinja",
        found=found,
        said=sentences(found),
        heads=heads,
        lines=lines,
        suites=_suite_lines(found),
        dials=within,
        drawings=drawings,
        environment="; ".join(f"{key}: {value}" for key, value in found.environment.items()),
    )
