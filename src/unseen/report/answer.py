"""The answer to a study's question, in plain words computed from the rows, whatever they say."""

import math
from dataclasses import dataclass

from unseen.report.tables import MEAN, Estimate, Setting, Tables, axis_title

BLIND = 0.2
"""Where less than this share of the degradation is removed, next to nothing was done."""

QUANTITY = "psnr_rgb"

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Comparison:
    """The best value on the curve axis against ordinary training, within one series.

    Where ordinary training is itself the best, `best` is the one after it. `unseen` and `seen` are differences in PSNR
    (RGB), seed by seed, `seen` in gain where each was trained on something else; `overlap` is whether the two intervals
    over seeds do (None: there are none).
    """

    best: Setting
    reference: Setting
    tried: int
    reference_wins: bool
    unseen: Estimate
    seen: Estimate
    change: Estimate
    overlap: bool | None


@dataclass(frozen=True)
class Blinding:
    """The share removed on one unseen suite from its highest point along training to the end.

    `fall` is the difference seed by seed, `rise` that of PSNR on the seen suite over the same steps. `shown`: the
    share falls while seen PSNR rises, both by more than the noise of the seeds (one seed: by any amount).
    """

    suite: str
    from_step: int
    to_step: int
    highest: float
    last: float
    fall: Estimate
    seen_before: float
    seen_after: float
    rise: Estimate
    shown: bool


@dataclass(frozen=True)
class Answer:
    """`gain`, `removal` and `training` are one sentence each (one per series of the study); `caveats` qualify them."""

    gain: tuple[str, ...]
    removal: tuple[str, ...]
    training: tuple[str, ...]
    caveats: tuple[str, ...]
    comparisons: tuple[Comparison | None, ...]


def count(number: int, noun: str) -> str:
    word = _WORDS[number] if number < len(_WORDS) else f"{number:,}"
    return f"{word} {noun}" if number == 1 else f"{word} {noun}s"


def listed(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def with_interval(estimate: Estimate, unit: str = "dB", scale: float = 1.0, decimals: int = 2) -> str:
    """ "+0.21 dB (-0.40 to +0.82)"."""
    text = f"{signed(scale * estimate.mean, decimals)} {unit}"
    if estimate.has_interval:
        text += f" ({signed(scale * estimate.low, decimals)} to {signed(scale * estimate.high, decimals)})"
    return text


def signed(value: float, decimals: int) -> str:
    """With its sign, but for zero."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text


def ordinary(reference: Setting) -> str:
    return "ordinary training" if reference.label == "ordinary" else f"ordinary training ({reference.label})"


def called_ordinary(reference: Setting) -> str:
    """The same as a label."""
    return "ordinary training" if reference.label == "ordinary" else f"{reference.label} (ordinary training)"


def compare(tables: Tables, series: str) -> Comparison | None:
    """None where ordinary training or all else has no finished network with a mean over every unseen suite."""
    known = [s for s in tables.within(series) if tables.of(s.name, MEAN, QUANTITY).defined]
    reference = next((setting for setting in known if setting.is_reference), None)
    others = [setting for setting in known if not setting.is_reference]
    if reference is None or not others:
        return None
    best = max(others, key=lambda setting: tables.of(setting.name, MEAN, QUANTITY).mean)
    mine, theirs = (tables.of(setting.name, MEAN, QUANTITY) for setting in (best, reference))
    return Comparison(
        best=best,
        reference=reference,
        tried=len(known),
        reference_wins=theirs.mean >= mine.mean,
        unseen=tables.difference(best.name, reference.name, MEAN, QUANTITY),
        seen=tables.difference(best.name, reference.name, tables.on_seen, "gain_rgb" if tables.varying else QUANTITY),
        change=tables.headlines[best.name].change,
        overlap=mine.overlaps(theirs),
    )


def answer(tables: Tables) -> Answer:
    """Sentences for the head of the page."""
    comparisons = tuple(compare(tables, series) for series in tables.series)
    gain, removal, training, caveats = [], [], [], []
    for series, comparison in zip(tables.series, comparisons, strict=True):
        start = f"{series[0].upper()}{series[1:]}. " if series else ""
        gain.append(start + _gain(tables, series, comparison))
        removal.append(start + _removal(tables, series, comparison))
        training.append(start + _training(tables, series, comparison))
        caveats += [start + text for text in _caveats(tables, series, comparison)]
    return Answer(tuple(gain), tuple(removal), tuple(training), tuple(caveats), comparisons)


def _gain(tables: Tables, series: str, found: Comparison | None) -> str:
    part = tables.within(series)
    over = f"the mean over {_suites(tables)}"
    if found is None:
        known = [s for s in part if tables.of(s.name, MEAN, QUANTITY).defined]
        if not known:
            if not tables.unseen:
                return "There is no unseen suite in this study, so it says nothing about generalisation."
            return f"There is no answer yet: no network is finished and judged on {_suites(tables, 'all')}."
        best = max(known, key=lambda setting: tables.of(setting.name, MEAN, QUANTITY).mean)
        why = (
            "there is nothing to compare it with"
            if len(known) == 1
            else "ordinary training is not among the finished networks, so nothing can be said against it"
        )
        value, gain = (tables.of(best.name, MEAN, name) for name in (QUANTITY, "gain_rgb"))
        return (
            f"{_of_values(tables, len(known), best)} reaches {value.mean:.2f} dB PSNR on {over}, "
            f"{signed(gain.mean, 2)} dB over the input; {why}."
        )
    seeds = min(found.unseen.seeds, max(len(s.finished) for s in (found.best, found.reference)))
    numbers = f"{with_interval(found.unseen)} PSNR" if found.unseen.defined else "with no seed in common"
    if found.change.defined:
        numbers += f" and {signed(100 * found.change.mean, 1)} % generalisation error"
    if found.unseen.has_interval:
        numbers += f" (in brackets 95 % intervals over {count(seeds, 'seed')})"
    where = "the seen suite" if len(tables.seen) == 1 else f"the mean over {count(len(tables.seen), 'seen suite')}"
    if tables.varying:
        where = "what each was trained on (the difference of two gains)"
    seen = f", beside {with_interval(found.seen)} on {where}" if found.seen.defined else ", with no seen suite beside"
    if found.reference_wins:
        head = (
            f"Of the {count(found.tried, 'value')} tried for the {axis_title(tables.curve)}, none does better than "
            f"{ordinary(found.reference)} on {over}: the nearest, {found.best.label}, is at {numbers}{seen}"
        )
    else:
        head = (
            f"{_of_values(tables, found.tried, found.best)} does best on {over}: {numbers} against "
            f"{ordinary(found.reference)}{seen}"
        )
    return f"{head}; {_noise(found, seeds)}."


def _of_values(tables: Tables, tried: int, best: Setting) -> str:
    if tried == 1:
        return f"The only value there is, {best.label},"
    return (
        f"Of the {count(tried, 'value')} tried for the {axis_title(tables.curve)}, {best.label} (chosen after the fact)"
    )


def _suites(tables: Tables, word: str = "") -> str:
    """ "all four unseen suites"."""
    number = len(tables.unseen)
    if number == 1:
        return "the one unseen suite"
    return f"{word or 'all'} {count(number, 'unseen suite')}"


def _noise(found: Comparison, seeds: int) -> str:
    if found.overlap is None:
        few = "one seed" if seeds <= 1 else "one seed of one of the two"
        return f"with {few} there is no interval, so this cannot be told from noise"
    noise = f"the noise of {count(seeds, 'seed')}"
    if found.overlap:
        paired = found.unseen.has_interval and (found.unseen.low > 0 or found.unseen.high < 0)
        though = ", although compared seed by seed it keeps its sign" if paired else ""
        return f"the intervals of the two overlap, so this is within {noise}{though}"
    if found.unseen.has_interval and found.unseen.low <= 0 <= found.unseen.high:
        return (
            "the intervals of the two do not overlap, but compared seed by seed the difference may as well be none, so "
            f"this is within {noise}"
        )
    return f"the intervals of the two do not overlap, so this is more than {noise}"


def _removal(tables: Tables, series: str, found: Comparison | None) -> str:
    part = [s for s in tables.within(series) if s.finished]
    if not part or not tables.unseen:
        return "Nothing can be said yet about what is removed."
    places = [*([MEAN] if len(tables.unseen) > 1 else []), *tables.unseen]
    ratios = {suite: {s.name: _removed(tables, s.name, suite) for s in part} for suite in places}
    known = [suite for suite in tables.unseen if any(ratio.defined for ratio in ratios[suite].values())]
    if not known:
        return "What was removed is undefined on every unseen suite."
    shown = [found.reference, found.best] if found else part[:2]
    names = [ordinary(s) if s.is_reference else s.label for s in shown]
    values = [f"{suite} " + " / ".join(_plain(ratios[suite][s.name]) for s in shown) for suite in places]
    blind = []
    for suite in known:
        low = [s for s in part if ratios[suite][s.name].mean < BLIND]
        if low:
            who = "every value" if len(low) == len(part) and len(part) > 1 else listed([s.label for s in low])
            blind.append(f"{suite} ({who})")
    kind = "share" if tables.maskless & set(tables.unseen) else "ratio"
    end = (
        f"the networks do next to nothing, which is a {kind} below {BLIND:g}, on {listed(blind)}"
        if blind
        else f"on none of them is it below {BLIND:g}, which would be next to nothing"
    )
    what, how = _of_what(tables)
    spread = ", with half of each 95 % interval," if any(ratios[places[0]][s.name].has_interval for s in shown) else ","
    return (
        f"The {what} ({how}0: did nothing, 1: removed all) on every unseen suite is{spread} for {' / '.join(names)}: "
        f"{', '.join(values)}; {end}."
    )


def _removed(tables: Tables, name: str, suite: str) -> Estimate:
    """The share of the degradation that is removed: the removal ratio, or without a mask 1 less the retention."""
    quantity = tables.told_apart(suite)[0]
    found = tables.of(name, suite, quantity)
    if quantity != "retention":
        return found
    return Estimate(1 - found.mean, 1 - found.high, 1 - found.low, found.seeds)


def _as_share(quantity: str, value: float) -> float:
    return 1 - value if quantity == "retention" else value


def _of_what(tables: Tables) -> tuple[str, str]:
    """What the share removed is called here, and how it is measured where that is not said by the name."""
    maskless = [suite in tables.maskless for suite in tables.unseen]
    if not any(maskless):
        return "removal ratio", ""
    return "share that is removed", f"{'' if all(maskless) else 'of noise and blur '}1 less the retention; "


def _plain(share: Estimate) -> str:
    """ "0.11 \u00b10.20", without an interval "0.11"."""
    if not share.defined:
        return "-"
    return f"{share.mean:.2f}" + (f" \u00b1{share.half:.2f}" if share.has_interval else "")


def blindings(tables: Tables, setting: Setting) -> list[Blinding]:
    """One per unseen suite of which it is known, along training, how much was removed."""
    found = []
    seen_curve = dict(tables.along.get((setting.name, tables.on_seen, QUANTITY), []))
    for suite in tables.unseen:
        quantity = tables.told_apart(suite)[0]
        curve = tables.along.get((setting.name, suite, quantity), [])
        if len(curve) < 2 or not {step for step, _ in curve} <= set(seen_curve):
            continue
        last_step, last = curve[-1]
        from_step, highest = max(curve, key=lambda point: _as_share(quantity, point[1].mean))
        less, more = (last_step, from_step) if quantity == "retention" else (from_step, last_step)
        fall = _change(tables, setting.name, suite, quantity, less, more)
        rise = _change(tables, setting.name, tables.on_seen, QUANTITY, from_step, last_step)
        falls = fall.high < 0 if fall.has_interval else fall.seeds == 1 and fall.mean < 0
        rises = rise.low > 0 if rise.has_interval else rise.seeds == 1 and rise.mean > 0
        before, after = seen_curve[from_step].mean, seen_curve[last_step].mean
        shown = falls and rises
        ends = (_as_share(quantity, highest.mean), _as_share(quantity, last.mean))
        found.append(Blinding(suite, from_step, last_step, *ends, fall, before, after, rise, shown))
    return found


def _change(tables: Tables, name: str, suite: str, quantity: str, before: int, after: int) -> Estimate:
    values = tables.along_each.get((name, suite, quantity), {})
    seeds = [seed for seed, step in values if step == after and (seed, before) in values]
    return Estimate.of(values[seed, after] - values[seed, before] for seed in seeds)


def _training(tables: Tables, series: str, found: Comparison | None) -> str:
    part = [s for s in tables.within(series) if s.finished]
    setting = found.reference if found else next((s for s in part if s.is_reference), part[0] if part else None)
    if setting is None:
        return "Nothing can be said yet about what happens along training."
    curves = blindings(tables, setting)
    who = ordinary(setting) if setting.is_reference else f"training ({setting.label})"
    if not curves and any(name == setting.name for name, *_ in tables.along):
        return (
            "Whether the networks grow blind along training cannot be told here: it takes a seen and an unseen suite."
        )
    if not curves:
        return "The networks were not judged along training, so whether they grow blind with it is not known."
    noise = " beyond the noise of the seeds" if curves[0].rise.has_interval else " (one seed: noise is not known)"
    shown = [curve for curve in curves if curve.shown]
    if not shown:
        return (
            f"Along {who} the rows do not show the network growing blind: on no unseen suite does the "
            f"{_of_what(tables)[0]} fall while seen PSNR rises{noise}."
        )
    details = [
        f"{curve.suite} from {curve.highest:.2f} (at {curve.from_step:,} steps, its highest) to {curve.last:.2f}"
        for curve in shown
    ]
    least = min(curve.seen_before for curve in shown)
    seen = f", while seen PSNR rises from {least:.1f} to {shown[0].seen_after:.1f} dB at {shown[0].to_step:,} steps"
    rest = [curve.suite for curve in curves if not curve.shown]
    end = f"; on {listed(rest)} it does not fall beyond noise" if rest and curves[0].rise.has_interval else ""
    end = f"; on {listed(rest)} it does not" if rest and not end else end
    text = (
        f"{who[0].upper()}{who[1:]} grows blind as it goes on{seen}: the {_of_what(tables)[0]} falls on "
        f"{', '.join(details)}{end}{noise if not rest else ''}"
    )
    if found is not None:
        others = {curve.suite: curve for curve in blindings(tables, found.best)}
        compared = [
            f"{curve.suite} {others[curve.suite].highest:.2f} to {others[curve.suite].last:.2f}"
            for curve in shown
            if curve.suite in others
        ]
        if compared:
            text += f" (with {found.best.label}: {', '.join(compared)})"
    return text + "."


def _caveats(tables: Tables, series: str, found: Comparison | None) -> list[str]:
    notes = []
    known = [s for s in tables.within(series) if tables.of(s.name, MEAN, QUANTITY).defined]
    best = max((tables.of(s.name, MEAN, QUANTITY).mean for s in known), default=math.nan)
    beaten = [
        f"{name} ({tables.of(name, MEAN, QUANTITY).mean:.2f} dB)"
        for name in tables.baselines
        if tables.of(name, MEAN, QUANTITY).mean >= best
    ]
    if beaten:
        notes.append(
            f"A restorer that knows nothing does as well on the mean over unseen suites: {listed(beaten)}, against "
            f"{best:.2f} dB for the best network. A claim that such a one would pass is void."
        )
    unequal = {len(s.finished) for s in tables.within(series) if s.finished}
    if found is not None and len(unequal) > 1:
        notes.append("The values have different numbers of finished seeds; differences are over the seeds in common.")
    if len({len(s.finished) for s in known}) == 1 and known and len(known[0].finished) == 1:
        notes.append("Every value has a single seed: there are no intervals, and differences may be chance.")
    return notes
