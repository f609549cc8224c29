"""The tables of a verdict: as they are printed, and every figure of them as records for CSV and JSON."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unseen import rows
from unseen.report.answer import signed
from unseen.report.comparison import SEEN, Comparison, Place, Scope
from unseen.report.printed import BASELINE_TITLES, Entry, Line, Table
from unseen.report.sentences import WORDS, clean_values, verdict, word_on
from unseen.report.tables import Estimate
from unseen.results import BASELINES

HEADLINES = ("psnr", "ssim", "gain", "removed")
"""Read as the suite reads them: on Y or in RGB; see `comparison.Sample`."""

QUANTITIES = (*HEADLINES, *rows.QUANTITIES)

_STANDS_FOR = {"psnr": "psnr_rgb", "ssim": "ssim_rgb", "gain": "gain_rgb", "removed": "removal_ratio"}


def display(quantity: str, value: float) -> str:
    return rows.display(_STANDS_FOR.get(quantity, quantity), value)


def head(found: Comparison, who: str) -> str:
    """The name that stands in tables, with a mark where figures prove nothing."""
    if who in BASELINES:
        return BASELINE_TITLES[who]
    leaks = found.entrant(who).leaks
    return f"{who} (leaks: {leaks})" if leaks else who


def title_of(place: Place) -> str:
    if place == SEEN:
        return "seen"
    return f"mean of {place.name}" if isinstance(place, Scope) else place


def convention(colors: set[str]) -> str:
    """ "Y", "RGB" or "Y or RGB"."""
    return " or ".join(color.upper() for color in sorted(colors, reverse=True))


def shown(quantity: str, estimate: Estimate, sign: bool = False) -> Entry:
    """A value, its interval in small print below."""
    text = display(quantity, estimate.mean)
    ends = ""
    if estimate.has_interval:
        ends = f"{display(quantity, estimate.low)} to {display(quantity, estimate.high)}"
    if sign and text[0].isdigit() and estimate.mean > 0:
        text = f"+{text}"
    return Entry(text, ends, _order(estimate.mean))


def _order(value: float) -> float | None:
    return None if math.isnan(value) else math.copysign(1e9, value) if math.isinf(value) else value


def said(word: str) -> Entry:
    """A verdict's word, sorted from best to worst."""
    order = float(WORDS.index(word)) if word in WORDS else None
    return Entry(word or "-", "", order, kind=f"text word {word}".strip())


def _lines(found: Comparison, entries: Any, baselines: bool = True) -> tuple[Line, ...]:
    lines = []
    for entrant in found.entrants:
        many = len(found.entrants) > 1
        kind = "reference" if many and entrant.label == found.reference else "setting"
        lines.append(Line(head(found, entrant.label), tuple(entries(entrant.label)), kind))
    for name in BASELINES if baselines else ():
        if any((name, place) in found.samples for place in (info.name for info in found.suites)):
            lines.append(Line(head(found, name), tuple(entries(name)), "baseline"))
    return tuple(lines)


def glance_table(found: Comparison) -> Table:
    """The headline, and beside it what it must not be read without."""
    many, headline = len(found.entrants) > 1, found.headline
    labels = [entrant.label for entrant in found.entrants]
    clean = [info.name for info in found.suites if info.group == "clean"]

    def entries(who: str) -> list[Entry]:
        model = who in labels
        line = [said(verdict(found, who) if model else word_on(found, who, headline))]
        line += [shown(q, found.of(who, headline, q), sign=q == "gain") for q in ("psnr", "ssim", "gain", "removed")]
        if many:
            line.append(_less(found, who, headline))
        line.append(shown("gain", found.of(who, SEEN, "gain"), sign=True))
        line.append(shown("gain", found.gap(who), sign=True) if model else Entry("-"))
        if many:
            standing = found.standings.get(who)
            line.append(_percent(found.error(who)))
            line.append(_rank(standing.rank) if standing else Entry("-"))
        if clean:
            means = [found.of(who, suite, "psnr") for suite in clean]
            every = [value for suite in clean for value in clean_values(found, who, suite)]
            mean = means[0] if len(means) == 1 else Estimate(sum(each.mean for each in means) / len(means))
            line.append(shown("psnr", mean))
            least = min(every, default=math.nan)
            line.append(Entry(display("psnr", least), "", _order(least)))
        return line

    colors = {found.info(suite).color for suite in headline.suites} or {"rgb"}
    reading = convention(colors)
    columns = [
        ("verdict", "what it does on unseen degradations: removes, leaves or harms"),
        (f"PSNR {reading}, dB", f"PSNR, {reading}, mean over these suites; higher is better"),
        (f"SSIM {reading}", "higher is better"),
        ("gain, dB", "PSNR of the restored less PSNR of the input; higher is better"),
        (
            "removed",
            "1 took the degradation out, 0 did nothing: the removal ratio, of noise and blur 1 less the retention",
        ),
    ]
    groups = [("", 1, ""), (_of_scope(headline), 4 + many, "unseen")]
    if many:
        columns.append(("less reference, dB", "PSNR less that of the reference, on the same draws of images"))
    columns.append(("gain, dB", "mean gain over the suites that are seen to the model"))
    columns.append(("gap, dB", "seen gain less unseen gain; lower is better, only beside the seen gain"))
    groups.append(("seen", 2, "seen"))
    if many:
        columns.append(("error", "mean MSE over the headline's suites, relative to the reference's; lower is better"))
        columns.append(("mean rank", "over the suites of the headline, by gain; 1 is best"))
        groups.append(("generalisation", 2, "unseen"))
    if clean:
        columns.append(("mean, dB", "PSNR of what is made of a clean image, against it; higher is better"))
        columns.append(("worst, dB", "the lowest over images"))
        groups.append(("clean images", 2, "clean"))
    return Table(
        head="model", columns=tuple(columns), lines=_lines(found, entries), groups=tuple(groups), title="At a glance"
    )


DECOUPLED = (
    "removal_ratio", "action_ratio", "residual", "removal", "oracle_removal", "reconstruction", "retention",
    "orthogonal_error",
)  # fmt: skip
"""By the mask, and the two that need none."""


WITHOUT_MASK = (
    "retention", "orthogonal_error", "bias", "deviation",
    *(f"{name}_{band}" for name in ("retention", "error", "deviation") for band in rows.BANDS),
)  # fmt: skip
"""Of noise and blur, where the mask is nearly everywhere: the whole, and octave by octave. Bias and deviation are of
noise alone."""


_SYMPTOM = ("removal_ratio", "action_ratio", "reconstruction")
_SYMPTOM_WITHOUT_MASK = ("retention", "orthogonal_error", "deviation")
"""What a model that does nothing to the unseen alone is told by, beside the same on what it has seen."""


def maskless(found: Comparison) -> bool:
    """Whether the headline is of noise or blur, which are told apart without a mask."""
    suites = found.headline.suites or tuple(info.name for info in found.suites if info.group != "clean")
    return bool(suites) and all(found.info(suite).color == "rgb" for suite in suites)


def decoupled_table(found: Comparison) -> Table | None:
    """What was done to the degradation and what to the background; None where no degraded images were judged."""
    whole, symptom = (WITHOUT_MASK, _SYMPTOM_WITHOUT_MASK) if maskless(found) else (DECOUPLED, _SYMPTOM)
    kinds: list[tuple[Scope, tuple[str, ...]]] = [(found.headline, whole)] if found.headline.suites else []
    if any((entrant.label, SEEN) in found.samples for entrant in found.entrants):
        kinds.append((SEEN, symptom if kinds else whole))
    if not kinds:
        return None
    labels = [entrant.label for entrant in found.entrants]

    def known(place: Scope, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(q for q in names if q in names[:2] or any(found.of(one, place, q).defined for one in labels))

    kinds = [(place, known(place, names)) for place, names in kinds]
    columns, groups = [], []
    for place, names in kinds:
        columns += [(rows.QUANTITIES[name].title, rows.QUANTITIES[name].meaning) for name in names]
        groups.append((_of_scope(place), len(names), "seen" if place == SEEN else "unseen"))

    def entries(who: str) -> list[Entry]:
        return [shown(name, found.of(who, place, name)) for place, names in kinds for name in names]

    return Table("model", tuple(columns), _lines(found, entries), tuple(groups), "Removal and reconstruction apart")


def _of_scope(scope: Scope) -> str:
    number = len(scope.suites)
    return f"mean of {scope.name} ({number} suite{'s' if number != 1 else ''})" if number else scope.name


def _less(found: Comparison, who: str, place: Place) -> Entry:
    """PSNR less that of the reference; bold where the difference is clear."""
    if who == found.reference:
        return Entry("reference", kind="quiet")
    known = found.differences.get((who, place))
    if known is None or not known.decibels.defined:
        return Entry("-")
    entry = shown("gain", known.decibels, sign=True)
    p = "" if math.isnan(known.corrected) else f"p\u00a0{_p(known.corrected)}"
    return Entry(entry.text, "; ".join(part for part in (entry.half, p) if part), entry.order, known.clear)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _percent(estimate: Estimate) -> Entry:
    if not math.isfinite(estimate.mean):
        return Entry("-")
    ends = f"{signed(100 * estimate.low, 1)} to {signed(100 * estimate.high, 1)}" if estimate.has_interval else ""
    return Entry(f"{signed(100 * estimate.mean, 1)} %", ends, estimate.mean)


def _rank(estimate: Estimate) -> Entry:
    if not estimate.defined:
        return Entry("-")
    ends = f"{estimate.low:.1f} to {estimate.high:.1f}" if estimate.has_interval else ""
    return Entry(f"{estimate.mean:.1f}", ends, estimate.mean)


@dataclass(frozen=True)
class Cell:
    """A model on a suite. `mark` is "+" or "-" where it is clearly better or worse than the reference."""

    word: str
    psnr: str = ""
    gain: str = ""
    ends: str = ""
    removed: str = ""
    group: str = ""
    mark: str = ""
    beaten: str = ""

    @property
    def text(self) -> str:
        """In one line."""
        if not self.psnr:
            return "-"
        gain = f"{self.gain} dB" + (f" ({self.ends})" if self.ends else "") if self.gain else ""
        parts = [f"{self.psnr} dB", gain, f"ratio {self.removed}" if self.removed else "", self.word]
        return ", ".join(part for part in parts if part) + (f" [{self.group}]" if self.group == "seen" else "")


@dataclass(frozen=True)
class Matrix:
    """Models down, suites across: where a model works and where it stops. `columns` are (title, convention, group)."""

    columns: tuple[tuple[str, str, str], ...]
    lines: tuple[tuple[str, str, tuple[Cell, ...]], ...]


def matrix(found: Comparison) -> Matrix:
    """Every suite that is compared, and the means over them."""
    across: list[Place] = [scope for scope in found.scopes if len(scope.suites) > 1]
    across += [info.name for info in found.suites]
    labels = {entrant.label: entrant for entrant in found.entrants}
    columns, lines = [], []
    for place in across:
        if isinstance(place, Scope):
            colors = {found.info(suite).color for suite in place.suites}
            columns.append((_of_scope(place), convention(colors), "unseen"))
        else:
            info = found.info(place)
            groups = {entrant.group(place) for entrant in found.entrants if place in entrant.shared}
            columns.append((place, info.color.upper(), groups.pop() if len(groups) == 1 else "mixed"))
    for line in _lines(found, lambda _: ()):
        who = next(name for name in (*labels, *BASELINES) if head(found, name) == line.head)
        lines.append((line.head, line.kind, tuple(_cell(found, who, place, labels.get(who)) for place in across)))
    return Matrix(tuple(columns), tuple(lines))


def _cell(found: Comparison, who: str, place: Place, entrant: Any) -> Cell:
    psnr, gain = found.of(who, place, "psnr"), found.of(who, place, "gain")
    if not psnr.defined or (entrant is not None and isinstance(place, str) and place not in entrant.shared):
        return Cell("")
    known = found.differences.get((who, place))
    group = entrant.group(place) if entrant is not None and isinstance(place, str) else ""
    degraded = gain.defined
    better = found.beaten_by(who, place) if entrant is not None and degraded else ()
    entry = shown("gain", gain, sign=True)
    removed = found.of(who, place, "removed").mean
    return Cell(
        word=word_on(found, who, place),
        psnr=display("psnr", psnr.mean),
        gain=entry.text if degraded else "",
        ends=entry.half if degraded else "",
        removed=display("removed", removed) if degraded and not math.isnan(removed) else "",
        group=group,
        mark="" if known is None or not known.clear else "+" if known.decibels.mean > 0 else "-",
        beaten=", ".join(name for name, _ in better),
    )


def differences_table(found: Comparison) -> Table | None:
    """Every model against the reference; None where there is but one."""
    if len(found.entrants) < 2:
        return None
    places: list[Place] = [*(scope for scope in found.scopes if scope.suites), *(info.name for info in found.suites)]
    columns = [(title_of(place), "PSNR less that of the reference, dB") for place in places]
    lines = _lines(found, lambda who: [_less(found, who, place) for place in places], baselines=False)
    return Table(
        "model", tuple(columns), tuple(x for x in lines if x.kind != "reference"), title="Against the reference"
    )


def full_tables(found: Comparison) -> list[Table]:
    """For each suite, and each mean, every quantity with its interval."""
    tables = []
    places: list[Place] = [*(scope for scope in found.scopes if scope.suites), *(info.name for info in found.suites)]
    for place in places:
        columns = [("PSNR, dB", "as the suite reads it"), ("SSIM", "as the suite reads it")]
        quantities = ("psnr", "ssim", *rows.QUANTITIES)
        columns += [(f"{q.title}, {q.unit}" if q.unit else q.title, q.meaning) for q in rows.QUANTITIES.values()]

        def entries(who: str, place: Place = place, quantities: Sequence[str] = quantities) -> list[Entry]:
            apart = isinstance(place, str) and who not in BASELINES and place not in found.entrant(who).shared
            return [Entry("-") if apart else shown(q, found.of(who, place, q)) for q in quantities]

        tables.append(Table("model", tuple(columns), _lines(found, entries), title=title_of(place)))
    return tables


def records(found: Comparison) -> Iterator[dict[str, Any]]:
    """One for each model and baseline on each suite and mean, with all quantities as `Estimate`."""
    for entrant in found.entrants:
        places: list[tuple[Place, str]] = [(info.name, "suite") for info in entrant.result.suites]
        places += [(scope, "mean") for scope in found.scopes if (entrant.label, scope) in found.samples]
        if found.judged[entrant.label] != found.headline:
            places.append((found.judged[entrant.label], "verdict"))
        if (entrant.label, SEEN) in found.samples:
            places.append((SEEN, "seen"))
        for place, kind in places:
            info = entrant.result.suite(place) if isinstance(place, str) else None
            suites = (place,) if isinstance(place, str) else place.suites or entrant.of_group("seen")
            known = found.differences.get((entrant.label, place))
            yield {
                "model": entrant.label,
                "result": entrant.result.id,
                "place": place if isinstance(place, str) else place.name,
                "kind": kind,
                "suites": list(suites),
                "group": info.group if info else "",
                "outside": list(info.outside) if info else [],
                "color": convention(
                    {entrant.result.suite(suite).color for suite in suites if suite in _names(entrant)}
                ),
                "images": sum(entrant.result.suite(suite).images for suite in suites if suite in _names(entrant)),
                "compared": info is None or info.name in entrant.shared,
                "leaks": None if entrant.result.leaks is None else entrant.leaks,
                "verdict": word_on(found, entrant.label, place),
                "beaten_by": [name for name, _ in found.beaten_by(entrant.label, place)]
                if found.of(entrant.label, place, "gain").defined
                else [],
                "quantities": {q: found.of(entrant.label, place, q) for q in QUANTITIES},
                "less_reference": known.decibels if known else Estimate(),
                "p": known.p if known else math.nan,
                "p_holm": known.corrected if known else math.nan,
            }
    for name in BASELINES:
        for place in (*(info.name for info in found.suites), *found.scopes):
            if (name, place) in found.samples:
                infos = [found.info(s) for s in ((place,) if isinstance(place, str) else place.suites)]
                yield {
                    "model": name,
                    "result": "",
                    "place": place if isinstance(place, str) else place.name,
                    "kind": "suite" if isinstance(place, str) else "mean",
                    "suites": [info.name for info in infos],
                    "group": "",
                    "outside": [],
                    "color": convention({info.color for info in infos}),
                    "images": sum(info.images for info in infos),
                    "compared": True,
                    "leaks": None,
                    "verdict": word_on(found, name, place),
                    "beaten_by": [],
                    "quantities": {q: found.of(name, place, q) for q in QUANTITIES},
                    "less_reference": Estimate(),
                    "p": math.nan,
                    "p_holm": math.nan,
                }


def _names(entrant: Any) -> set[str]:
    return {info.name for info in entrant.result.suites}


def frame(found: Comparison) -> pd.DataFrame:
    """`records` as one line each: every quantity q as q, q_low, q_high. Undefined is empty, infinite is inf."""
    lines = []
    for record in records(found):
        line = {key: value for key, value in record.items() if not isinstance(value, dict | Estimate)}
        line = {key: "; ".join(value) if isinstance(value, list) else value for key, value in line.items()}
        for name, estimate in (*record["quantities"].items(), ("less_reference", record["less_reference"])):
            line |= {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        lines.append({key: _harmless(value) for key, value in line.items()})
    return pd.DataFrame(lines)


def _harmless(value: Any) -> Any:
    """A spreadsheet computes text that begins so; an apostrophe keeps it from that."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") and value else value


def as_json(found: Comparison) -> list[dict[str, Any]]:
    """`records` ready for strict JSON."""
    return [
        {
            **{key: plain(value) for key, value in record.items() if key != "quantities"},
            "quantities": {name: plain(estimate) for name, estimate in record["quantities"].items()},
        }
        for record in records(found)
    ]


def plain(value: Any) -> Any:
    """Estimates as {mean, low, high}, what is not finite as null, with a note where it is infinite."""
    if isinstance(value, Estimate):
        found = {name: plain(getattr(value, name)) for name in ("mean", "low", "high")}
        return found | ({"note": "infinite"} if math.isinf(value.mean) else {})
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
