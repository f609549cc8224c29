"""What a model does with degradations that it has never seen, in one word and one sentence, computed from its figures.

The words, for a suite or a mean over suites:

- **harms**: PSNR is lower than that of the input by what can be noticed (`NOTICED`), and the whole interval of the gain
  is below 0.
- **removes**: at least half of the degradation is taken out (`REMOVED`), and the whole interval of the gain is above 0.
- **leaves**: all else. The degradation is mostly still there.

A model as a whole **harms**, too, if it gains nothing for certain and spoils clean images (mean PSNR below `UNHARMED`).
On a suite of clean images the words are **keeps** and **harms**, by the same bound.
"""

import math

from unseen.report.answer import count, listed, signed
from unseen.report.comparison import SEEN, Comparison, Entrant, Place
from unseen.report.tables import Estimate
from unseen.results import MODEL
from unseen.rows import display

REMOVED = 0.5
"""Share of the degradation (as the removal ratio) from which on it counts as removed. A judgement: most of it."""

UNHARMED = 35.0
"""Mean PSNR in dB of restored clean images from which on they count as unharmed: an RMS error of 4.5 of 255, about what
saving as JPEG of good quality does. A judgement, too."""

NOTICED = 0.05
"""Loss in dB from which on it is called harm: less is a matter of rounding, however sure it is."""

WORDS = ("removes", "leaves", "harms")


def word(gain: Estimate, removed: float, spoils: bool = False) -> str:
    """One of WORDS, or "" where the gain is undefined. Without an interval the gain counts as it is."""
    if not gain.defined:
        return ""
    low, high = (gain.low, gain.high) if gain.has_interval else (gain.mean, gain.mean)
    if high < 0 and gain.mean <= -NOTICED:
        return "harms"
    if removed >= REMOVED and low > 0:
        return "removes"
    return "harms" if spoils and low <= 0 else "leaves"


def word_on(found: Comparison, who: str, place: Place) -> str:
    """The word of an entrant or a baseline on one suite, or on a mean over suites."""
    if isinstance(place, str) and _group(found, who, place) == "clean":
        clean = found.of(who, place, "psnr").mean
        return "" if math.isnan(clean) else "keeps" if clean >= UNHARMED else "harms"
    return word(found.of(who, place, "gain"), found.of(who, place, "removed").mean)


def verdict(found: Comparison, label: str) -> str:
    """The word for a model as a whole: on what it has not seen of the headline, and what it does to clean images."""
    place = found.judged[label]
    return word(found.of(label, place, "gain"), found.of(label, place, "removed").mean, spoils(found, label))


def spoils(found: Comparison, label: str) -> bool:
    return any(word_on(found, label, suite) == "harms" for suite in found.entrant(label).of_group("clean"))


def sentence(found: Comparison, label: str) -> str:
    """One sentence, whatever the figures say."""
    entrant, place = found.entrant(label), found.judged[label]
    said = verdict(found, label)
    if not said:
        return f"{label} {_unjudged(found, entrant)}."
    parts = [_core(found, entrant, said), *_each(found, entrant)]
    seen = found.of(label, SEEN, "gain")
    if seen.defined and set(entrant.of_group("seen")) != set(place.suites):
        gap = found.gap(label)
        parts.append(
            f"on what it has seen the gain is {signed(seen.mean, 2)} dB"
            + (f", a gap of {signed(gap.mean, 2)} dB" if gap.defined else "")
        )
    for suite in entrant.of_group("clean"):
        parts.append(_clean(found, label, suite))
    if beaten := found.beaten_by(label, place):
        better = listed([f"{name} ({signed(gain, 2)} dB)" for name, gain in beaten])
        does, knows = ("does", "knows") if len(beaten) == 1 else ("do", "know")
        parts.append(f"{better}, which {knows} nothing, {does} as well or better")
    if entrant.leaks:
        parts.append(f"{count(entrant.leaks, 'test image')} of these it was trained on, so the figures prove nothing")
    return "; ".join(parts) + "."


def _unjudged(found: Comparison, entrant: Entrant) -> str:
    missing = [suite for suite in found.judged[entrant.label].suites if suite not in entrant.shared]
    seen = found.of(entrant.label, SEEN, "gain")
    also = f"; on what it has seen the gain is {signed(seen.mean, 2)} dB" if seen.defined else ""
    if missing:
        apart = [f"{suite} ({entrant.apart[suite]})" if suite in entrant.apart else suite for suite in missing]
        own = [f"{w} {', '.join(suites)}" for w, suites in _words(found, entrant).items()]
        also = (f"; it {', '.join(own)}" if own else "") + also
        return f"has no verdict on {found.headline.name}, as it was not judged on {listed(apart)}{also}"
    return f"was judged on no unseen suite, which says nothing about generalisation{also}"


def _core(found: Comparison, entrant: Entrant, said: str) -> str:
    label, place = entrant.label, found.judged[entrant.label]
    gain, removed = (found.of(label, place, quantity) for quantity in ("gain", "removed"))
    groups = {entrant.group(suite) for suite in place.suites}
    if groups == {"unseen"}:
        what, where = "unseen degradations", ""
    elif groups == {"seen"}:
        what, where = "degradations", " (all of which it has seen)"
    else:
        what, where = "degradations", " (what it was trained on is not known)"
    colors = {found.info(suite).color for suite in place.suites}
    reading = {"y": "PSNR on Y", "rgb": "PSNR"}[colors.pop()] if len(colors) == 1 else "PSNR (Y or RGB)"
    if len(place.suites) > 1:
        where = f"on the mean over {count(len(place.suites), 'suite')} of {place.name}{where}"
    else:
        where = f"on {listed(list(place.suites))}{where}"
    sign = -1 if removed.mean < 0 else 1
    taken = f"{_percent(sign * removed.mean)} of the degradation" if removed.defined else "an undefined share"
    if removed.has_interval:
        taken += f" ({' to '.join(_percent(sign * end) for end in (removed.low, removed.high)[::sign])})"
    object_ = f"images with {what}" if said == "harms" else what
    return (
        f"{label} {said} {object_}: {where} it {'adds' if sign < 0 else 'takes out'} {taken}, and {reading} is "
        f"{_decibels(gain)} {'over' if gain.mean >= 0 else 'against'} the input"
    )


def _decibels(gain: Estimate) -> str:
    text = f"{signed(gain.mean, 2)} dB" if math.isfinite(gain.mean) else "infinitely many dB"
    return text + (f" ({signed(gain.low, 2)} to {signed(gain.high, 2)})" if gain.has_interval else "")


def _each(found: Comparison, entrant: Entrant) -> list[str]:
    """Which suite has which word, where they are several."""
    words = _words(found, entrant)
    if sum(len(suites) for suites in words.values()) < 2:
        return []
    return ["it " + ", ".join(f"{said} {listed(suites)}" for said, suites in words.items())]


def _words(found: Comparison, entrant: Entrant) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {said: [] for said in WORDS}
    for info in found.suites:
        if info.name in entrant.shared and entrant.group(info.name) != "clean":
            said = word_on(found, entrant.label, info.name)
            if said:
                known = " (seen)" if entrant.group(info.name) == "seen" and info.name != "seen" else ""
                groups[said].append(info.name + known)
    return {said: suites for said, suites in groups.items() if suites}


def _clean(found: Comparison, label: str, suite: str) -> str:
    mean = found.of(label, suite, "psnr").mean
    if mean == math.inf:
        return "clean images are left as they are"
    worst = min((value for value in clean_values(found, label, suite)), default=math.nan)
    bound = f", less than the {UNHARMED:g} dB of what counts as unharmed" if mean < UNHARMED else ""
    return f"clean images come out at {display('psnr_rgb', mean)} dB{bound} (worst {display('psnr_rgb', worst)} dB)"


def clean_values(found: Comparison, who: str, suite: str) -> list[float]:
    """Headline PSNR of each image of a suite of clean ones, dB; of an entrant or a baseline."""
    for entrant in found.entrants:
        restorer = MODEL if entrant.label == who else who if suite in entrant.shared else ""
        part = entrant.result.rows.get(suite)
        if part is not None and restorer in part.atoms:
            values = part.values(restorer, f"psnr_{entrant.result.suite(suite).color}")
            return [float(value) for value in values if not math.isnan(value)]
    return []


def _group(found: Comparison, who: str, suite: str) -> str:
    for entrant in found.entrants:
        if entrant.label == who:
            return entrant.group(suite)
    return found.info(suite).group


def _percent(share: float) -> str:
    text = f"{100 * share:.0f} %"
    return text.removeprefix("-") if text == "-0 %" else text


def caveats(found: Comparison) -> list[str]:
    """What a reader must know before believing the page."""
    notes = []
    for entrant in found.entrants:
        if entrant.result.leaks:
            first = entrant.result.leaks[0]
            notes.append(
                f"{entrant.label} was judged on images it was trained on: {count(entrant.leaks, 'test image')}, first "
                f"{first.test} (as {first.train} in training). Its figures are not comparable with others'."
            )
    for scope in found.scopes:
        if scope.missing:
            held = [suite for suite in scope.missing if any(suite in entrant.shared for entrant in found.entrants)]
            others = [suite for suite in scope.missing if suite not in held]
            who = [f"nobody was judged on {listed(others)}"] if others else []
            who += [f"the reference, {found.reference}, was not judged on {listed(held)}"] if held else []
            notes.append(
                f"The mean over {scope.name} is over {count(len(scope.suites), 'suite')} only: {' and '.join(who)}."
            )
    notes += _who_lacks(found)
    unknown = [e.label for e in found.entrants if any(e.group(s) == "unknown" for s in found.headline.suites)]
    if unknown:
        notes.append(
            f"What {listed(unknown)} {'was' if len(unknown) == 1 else 'were'} trained on is not known, so neither is "
            "whether these suites are unseen to it: there is no gap."
        )
    for entrant in found.entrants:
        seen = [suite for suite in found.headline.suites if entrant.group(suite) == "seen"]
        if seen:
            notes.append(
                f"{listed(seen)} {'is' if len(seen) == 1 else 'are'} not unseen to {entrant.label}: the mean over "
                f"{found.headline.name} counts {'it' if len(seen) == 1 else 'them'}, its verdict and its gap do not."
            )
    estimated = [info.name for info in found.suites if info.mask == "estimated"]
    if estimated:
        notes.append(
            f"Of {listed(estimated)} the mask is not known and was estimated as where the degraded image differs from "
            "the clean one: removal ratio, residual, E_R and E_B there are by that."
        )
    return notes


def _who_lacks(found: Comparison) -> list[str]:
    notes = []
    for entrant in found.entrants:
        lacking = [info.name for info in found.suites if info.name not in (*entrant.shared, *entrant.apart)]
        apart = {suite: why for suite, why in entrant.apart.items() if entrant.group(suite) != "seen"}
        if lacking:
            notes.append(f"{entrant.label} was not judged on {listed(lacking)}.")
        if apart:
            which = listed([f"{suite} ({why})" for suite, why in apart.items()])
            notes.append(f"{entrant.label} is not compared on {which}.")
    return notes
