"""Results side by side: which suites are of the same images, and every figure that is made from their rows.

Every figure is an array as `rows.bootstrapped` makes them (the value, then its draws), so that means over suites,
gaps, differences and ranks have intervals that respect which images belong together. The file stays whole because what
may be compared with what is one law.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unseen import rows
from unseen.errors import ConfigError, DataError
from unseen.report.statistics import holm, signed_rank
from unseen.report.tables import LEVEL, Estimate
from unseen.results import BASELINES, MODEL, Result, SuiteInfo

HEADLINE = "unseen-"
"""How the collections begin that headlines are read on, one of each family: the first that the reference has a suite
of, `FIRST` before others."""

FIRST = ("unseen-rain", "unseen-noise", "unseen-blur")

TOLERANCE = 1e-3
"""dB by which the PSNR of one input may differ between two results, being computed on two machines."""

Array = NDArray[np.float64]
Sample = Mapping[str, Array]
"""By quantity, as `rows.bootstrapped`, and beside those `psnr`, `ssim` and `gain` as the suite reads them (Y or RGB),
and `removed`: the removal ratio; of what is read in RGB (noise, blur), and where it is undefined, 1 less the retention,
which needs no mask."""


@dataclass(frozen=True)
class Scope:
    """A mean over suites, each counting the same. `missing`: members of the collection that are not in it."""

    name: str
    suites: tuple[str, ...]
    missing: tuple[str, ...] = ()


Place = str | Scope
"""Where a figure is of: a suite by its name, or a mean."""

SEEN = Scope("seen", ())
"""The mean over the suites that are seen to a model, whichever those are."""


@dataclass(frozen=True)
class Entrant:
    """A result under a name that no other has. `shared` are its suites on the images that all are compared on; `apart`
    are the others, with why."""

    label: str
    result: Result
    shared: tuple[str, ...]
    apart: Mapping[str, str]

    @property
    def leaks(self) -> int:
        """How many test images were found among the training images."""
        return len(self.result.leaks or ())

    def group(self, suite: str) -> str:
        return next((info.group for info in self.result.suites if info.name == suite), "unknown")

    def of_group(self, group: str) -> tuple[str, ...]:
        return tuple(info.name for info in self.result.suites if info.group == group)


@dataclass(frozen=True)
class Difference:
    """Headline PSNR less that of the reference, dB. `p` is Wilcoxon's over images, `corrected` Holm's over suites; NaN
    for a mean over suites, which has its interval alone."""

    decibels: Estimate
    p: float = math.nan
    corrected: float = math.nan

    @property
    def clear(self) -> bool:
        """Beyond what another draw of images would change, and on a suite after correction too."""
        beyond = self.decibels.has_interval and not self.decibels.low <= 0 <= self.decibels.high
        return beyond and not self.corrected >= 1 - LEVEL


@dataclass(frozen=True)
class Standing:
    """Among those that were judged on every suite of the headline: mean rank over its suites, place by mean gain."""

    rank: Estimate
    place: Estimate


@dataclass(frozen=True)
class Image:
    """One image as a model left it: headline PSNR before and after, dB."""

    label: str
    suite: str
    image: str
    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class Comparison:
    """`entrants` are in the order of their places. `suites` are those compared, as the first to have them describes
    them; `scopes` the means over them, the first of which is the headline; `judged` is for each entrant the part of the
    headline that it has not seen."""

    entrants: tuple[Entrant, ...]
    reference: str
    suites: tuple[SuiteInfo, ...]
    scopes: tuple[Scope, ...]
    judged: Mapping[str, Scope]
    samples: Mapping[tuple[str, Place], Sample]
    baselines: Mapping[tuple[str, str, str], Sample]
    differences: Mapping[tuple[str, Place], Difference]
    standings: Mapping[str, Standing]
    duplicates: tuple[str, ...]
    _known: dict[tuple[str, Place, str], Estimate] = field(default_factory=dict, repr=False)

    @property
    def headline(self) -> Scope:
        return self.scopes[0]

    def entrant(self, label: str) -> Entrant:
        return next(entrant for entrant in self.entrants if entrant.label == label)

    def info(self, suite: str) -> SuiteInfo:
        return next(info for info in self.suites if info.name == suite)

    def of(self, who: str, place: Place, quantity: str) -> Estimate:
        """Of an entrant or, on what is compared, of a baseline."""
        key = (who, place, quantity)
        if key not in self._known:
            found = self.samples.get((who, place))
            self._known[key] = Estimate() if found is None else Estimate(*rows.percentiles(found[quantity], LEVEL))
        return self._known[key]

    def baseline_of(self, label: str, baseline: str, place: Place, quantity: str) -> float:
        """What a baseline scores on the images of an entrant; NaN where it was not judged on all of them."""
        suites = (place,) if isinstance(place, str) else place.suites
        found = [self.baselines.get((label, baseline, suite)) for suite in suites]
        values = [float(sample[quantity][0]) for sample in found if sample is not None]
        return float(np.mean(values)) if values and len(values) == len(found) else math.nan

    def beaten_by(self, label: str, place: Place) -> tuple[tuple[str, float], ...]:
        """Baselines that gain as much or more, with their gain, dB."""
        mine = self.of(label, place, "gain").mean
        others = [name for name in BASELINES if name != self.entrant(label).result.model.name]
        theirs = {name: self.baseline_of(label, name, place, "gain") for name in others}
        return tuple((name, gain) for name, gain in theirs.items() if gain >= mine)

    def gap(self, label: str) -> Estimate:
        """Mean gain on seen suites less mean gain on unseen ones, dB; undefined where either is not known."""
        scope, entrant = self.judged[label], self.entrant(label)
        if any(entrant.group(suite) != "unseen" for suite in scope.suites):
            return Estimate()
        seen, unseen = self.samples.get((label, SEEN)), self.samples.get((label, scope))
        if seen is None or unseen is None:
            return Estimate()
        return Estimate(*rows.percentiles(seen["gain"] - unseen["gain"], LEVEL))

    def error(self, label: str) -> Estimate:
        """Mean MSE over the headline's suites relative to the reference's: -0.37 is 37 % less."""
        mine, base = (self.samples.get((who, self.headline)) for who in (label, self.reference))
        if mine is None or base is None or not base["mse"][0] > 0:
            return Estimate()
        with np.errstate(invalid="ignore", divide="ignore"):
            return Estimate(*rows.percentiles(mine["mse"] / base["mse"] - 1, LEVEL))

    def images(self, label: str) -> Iterator[Image]:
        """Every degraded image."""
        entrant = self.entrant(label)
        for info in entrant.result.suites:
            if info.group != "clean":
                part = entrant.result.rows[info.name]
                before, after = (part.values(MODEL, f"{kind}psnr_{info.color}") for kind in ("input_", ""))
                for image, one, other in zip(part.images, before, after, strict=True):
                    yield Image(label, info.name, image, float(one), float(other))

    def worst(self, number: int) -> list[Image]:
        """The images of each entrant with the lowest gain, `number` of each, worst first."""

        def gain(image: Image) -> float:
            return image.gain

        lots = [[image for image in self.images(e.label) if not math.isnan(image.gain)] for e in self.entrants]
        return sorted((image for lot in lots for image in sorted(lot, key=gain)[:number]), key=gain)


def compare(results: Sequence[Result], reference: str | None = None, resamples: int = 1000) -> Comparison:
    """Put results side by side. `reference` names a model, or its label here; the first result by default.

    A suite is compared among those who were judged on the same images in the same convention: those of the reference,
    or of most. Raises DataError without results, ConfigError where the reference is not among them.
    """
    kept = list({result.id: result for result in results}.values())
    if not kept:
        raise DataError("There is no result to show. Judge a model with `unseen evaluate`, or name result files.")
    often = Counter(result.id for result in results)
    twice = tuple(sorted(f"{result.model.name} [{result.id}]" for result in kept if often[result.id] > 1))
    labels = _labels(kept)
    base = _reference(kept, labels, reference)
    chosen = _chosen(kept, base)
    entrants = tuple(_entrant(label, result, chosen) for label, result in zip(labels, kept, strict=True))
    judge = entrants[base]
    suites = tuple(info for info, _ in chosen.values())
    scopes = _scopes(judge, suites, entrants)
    samples, baselines = _samples(entrants, judge, resamples)
    judged = {}
    for entrant in entrants:
        unseen = tuple(suite for suite in scopes[0].suites if entrant.group(suite) != "seen")
        whole = unseen == scopes[0].suites or not unseen
        judged[entrant.label] = scopes[0] if whole else Scope(scopes[0].name, unseen, scopes[0].missing)
    for who in (*labels, *BASELINES):
        places: list[tuple[Scope, tuple[str, ...]]] = [(scope, scope.suites) for scope in scopes]
        if who in judged:
            places.append((judged[who], judged[who].suites))
        places.append((SEEN, (entrants[labels.index(who)] if who in judged else judge).of_group("seen")))
        for scope, members in places:
            own = scope == SEEN or who not in judged  # of other images, a model's own figures enter no other mean
            common = members if own else entrants[labels.index(who)].shared
            parts = [samples[who, suite] for suite in members if suite in common and (who, suite) in samples]
            if parts and len(parts) == len(members):
                samples[who, scope] = {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}
    standings = _standings(entrants, scopes[0], samples)
    nowhere = Standing(Estimate(), Estimate(math.inf))
    return Comparison(
        entrants=tuple(sorted(entrants, key=lambda entrant: standings.get(entrant.label, nowhere).place.mean)),
        reference=judge.label,
        suites=suites,
        scopes=scopes,
        judged=judged,
        samples=samples,
        baselines=baselines,
        differences=dict(_differences(entrants, judge, suites, scopes, samples)),
        standings=standings,
        duplicates=twice,
    )


def _labels(results: Sequence[Result]) -> list[str]:
    """Model names, with the result's identity where two share one, and never that of a baseline."""
    often = Counter(result.model.name for result in results)
    found: list[str] = []
    for result in results:
        name = result.model.name
        label = f"{name} (as a model)" if name in BASELINES else name
        label = f"{label} [{result.id}]" if often[name] > 1 else label
        while label in found:
            label += f" [{result.id}]"
        found.append(label)
    return found


def _reference(results: Sequence[Result], labels: Sequence[str], wanted: str | None) -> int:
    if wanted is None:
        return 0
    found = [place for place, label in enumerate(labels) if label == wanted]
    found = found or [place for place, result in enumerate(results) if result.model.name == wanted]
    if len(found) != 1:
        many = "is not among the models" if not found else "is the name of several models"
        raise ConfigError(f"The reference {wanted!r} {many}. Name one of: {', '.join(labels)}.")
    return found[0]


_Chosen = dict[str, tuple[SuiteInfo, Result]]
"""By name each suite that is compared, and the result that says what it is."""


def _version(result: Result, info: SuiteInfo) -> tuple[object, ...]:
    images = tuple(sorted(result.rows[info.name].images))
    return info.content, info.color, info.border, info.align, images


def _chosen(results: Sequence[Result], base: int) -> _Chosen:
    order = [results[base], *(result for place, result in enumerate(results) if place != base)]
    holders: dict[str, dict[tuple[object, ...], list[tuple[SuiteInfo, Result]]]] = {}
    for result in order:
        for info in result.suites:
            holders.setdefault(info.name, {}).setdefault(_version(result, info), []).append((info, result))
    chosen: _Chosen = {}
    for name, versions in holders.items():
        lots = list(versions.values())
        first = lots[0][0][1] is order[0]
        lot = lots[0] if first else max(lots, key=len)
        if len(lots) == 1 or len(lot) > 1 or (first and lot[0][0].group != "seen"):
            chosen[name] = lot[0]
    rank = {"seen": 0, "unseen": 1, "unknown": 2, "clean": 3}

    def place(info: SuiteInfo) -> int:  # a collection stays together and in its order, whoever has seen part of it
        return rank["unseen"] if info.collections else rank[info.group]

    return dict(sorted(chosen.items(), key=lambda item: place(item[1][0])))


def _entrant(label: str, result: Result, chosen: _Chosen) -> Entrant:
    apart = {}
    for info in result.suites:
        if why := _why_apart(result, info, chosen):
            apart[info.name] = why
    return Entrant(label, result, tuple(info.name for info in result.suites if info.name not in apart), apart)


def _why_apart(result: Result, info: SuiteInfo, chosen: _Chosen) -> str:
    if info.name not in chosen:
        own = info.group == "seen"
        return "every model was trained on something else" if own else "everyone has other images of this name"
    known, holder = chosen[info.name]
    if holder is result:
        return ""
    if info.content != known.content:
        return f"other images ({info.content} instead of {known.content})"
    if (info.color, info.border, info.align) != (known.color, known.border, known.align):
        return "another convention (Y or RGB, border, alignment)"
    mine, theirs = result.rows[info.name], holder.rows[info.name]
    if set(mine.images) != set(theirs.images):
        return "other names of images"
    order = [mine.images.index(image) for image in theirs.images] if mine.images != theirs.images else slice(None)
    for atom in ("input_psnr_rgb", "input_psnr_y"):
        if not np.allclose(mine.values(MODEL, atom)[order], theirs.values(MODEL, atom), rtol=0, atol=TOLERANCE):
            return "the same hash, but another PSNR of the degraded images"
    return ""


def _scopes(judge: Entrant, suites: Sequence[SuiteInfo], entrants: Sequence[Entrant]) -> tuple[Scope, ...]:
    """The headline first: a family's collection, else all unseen to the reference, else all whose group is not known.
    Then other collections, all unseen suites, and where not everyone has all of the headline, what everyone has of it.
    """
    held = [info for info in suites if info.name in judge.shared and info.group != "clean"] or list(suites)
    members: dict[str, list[str]] = {}
    for info in suites:
        for collection in info.collections:
            members.setdefault(collection, []).append(info.name)
    for entrant in entrants:
        for collection, names in entrant.result.collections.items():
            if collection in members:
                members[collection] += [name for name in names if name not in members[collection]]
    collected = {
        name: tuple(info.name for info in held if name in info.collections)
        for name in sorted(members, key=lambda name: ((*FIRST, name).index(name), not name.startswith(HEADLINE)))
    }
    found = [
        Scope(name, its, tuple(member for member in members[name] if member not in its))
        for name, its in collected.items()
        if its
    ]
    for title, group in (("all unseen suites", "unseen"), ("all suites", "unknown")):
        its = tuple(info.name for info in held if info.group == group)
        if its and (not found or (group == "unseen" and set(its) != set(found[0].suites))):
            found.append(Scope(title, its))
    if not found:
        return (Scope("all unseen suites", ()),)
    if not found[0].name.startswith(HEADLINE):  # collections of something else do not take its place
        found.sort(key=lambda scope: scope.name != "all unseen suites")
    everyone = tuple(suite for suite in found[0].suites if all(suite in entrant.shared for entrant in entrants))
    if everyone and everyone != found[0].suites:
        found.append(Scope(f"what everyone has of {found[0].name}", everyone))
    return tuple(found)


def _samples(
    entrants: Sequence[Entrant], judge: Entrant, resamples: int
) -> tuple[dict[tuple[str, Place], Sample], dict[tuple[str, str, str], Sample]]:
    """Of every entrant on every suite of its own, and of the baselines beside it; on shared suites those are one."""
    samples: dict[tuple[str, Place], Sample] = {}
    baselines: dict[tuple[str, str, str], Sample] = {}
    for entrant in (judge, *(other for other in entrants if other is not judge)):
        result, parts = entrant.result, []
        for suite, part in result.rows.items():
            for restorer, columns in part.atoms.items():
                if restorer == MODEL or suite not in entrant.shared or (restorer, suite) not in samples:
                    atoms = {atom: part.values(restorer, atom) for atom in columns}
                    parts.append(rows.rows_of(atoms, restorer, 0, suite, part.images))
        for (who, _, suite), found in rows.bootstrapped(pd.concat(parts, ignore_index=True), resamples).items():
            sample = _with_headline(found, result.suite(suite))
            if who == MODEL:
                samples[entrant.label, suite] = sample
            elif suite in entrant.shared:
                samples[who, suite] = sample
            else:
                baselines[entrant.label, who, suite] = sample
    for entrant in entrants:
        for suite in entrant.shared:
            baselines |= {(entrant.label, n, suite): samples[n, suite] for n in BASELINES if (n, suite) in samples}
    return samples, baselines


def _with_headline(found: Sample, info: SuiteInfo) -> Sample:
    read = {name: found[f"{name}_{info.color}"] for name in ("psnr", "ssim", "gain")}
    if info.group == "clean":  # the input is perfect
        read["gain"] = np.full_like(read["gain"], math.nan)
    ratio = found["removal_ratio"]
    masked = info.color == "y" and not math.isnan(ratio[0])
    return {**found, **read, "removed": ratio if masked else 1 - found["retention"]}


def _differences(
    entrants: Sequence[Entrant],
    judge: Entrant,
    suites: Sequence[SuiteInfo],
    scopes: Sequence[Scope],
    samples: Mapping[tuple[str, Place], Sample],
) -> Iterator[tuple[tuple[str, Place], Difference]]:
    for entrant in entrants:
        if entrant is judge:
            continue
        common = [info for info in suites if info.name in entrant.shared and info.name in judge.shared]
        p = [signed_rank(_by_image(entrant, info) - _by_image(judge, info)) for info in common]
        tested = dict(zip((info.name for info in common), zip(p, holm(p), strict=True), strict=True))
        for place in (*tested, *scopes):
            mine, base = samples.get((entrant.label, place)), samples.get((judge.label, place))
            if mine is not None and base is not None:
                with np.errstate(invalid="ignore"):  # both perfect
                    less = mine["psnr"] - base["psnr"]
                chance = tested[place] if isinstance(place, str) else ()
                yield (entrant.label, place), Difference(Estimate(*rows.percentiles(less, LEVEL)), *chance)


def _by_image(entrant: Entrant, info: SuiteInfo) -> Array:
    """Headline PSNR by image, in the order of names; infinite ones are large, so that two of them do not differ."""
    part = entrant.result.rows[info.name]
    values = part.values(MODEL, f"psnr_{info.color}")[np.argsort(np.array(part.images))]
    return np.minimum(values, 1e3)


def _standings(
    entrants: Sequence[Entrant], headline: Scope, samples: Mapping[tuple[str, Place], Sample]
) -> dict[str, Standing]:
    from scipy.stats import rankdata

    names = [entrant.label for entrant in entrants if (entrant.label, headline) in samples]
    if not names:
        return {}
    by_suite = [
        rankdata([-samples[name, suite]["gain"] for name in names], axis=0, nan_policy="propagate")
        for suite in headline.suites
    ]
    ranks = np.mean(by_suite, axis=0)
    gains = [-samples[name, headline]["gain"] for name in names]
    places = rankdata(gains, method="min", axis=0, nan_policy="propagate").astype(np.float64)
    return {
        name: Standing(Estimate(*rows.percentiles(rank, LEVEL)), Estimate(*rows.percentiles(place, LEVEL)))
        for name, rank, place in zip(names, ranks, places, strict=True)
    }
