"""The verdict on one or many models: a self-contained page, a text with figures, and every figure as CSV and JSON."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from unseen.report import charts, pictures, verdict_tables
from unseen.report.answer import count
from unseen.report.comparison import SEEN, Comparison, Entrant, compare
from unseen.report.page import duration
from unseen.report.printed import Table
from unseen.report.sentences import NOTICED, REMOVED, UNHARMED, caveats, sentence, spoils, verdict
from unseen.report.tables import LEVEL
from unseen.report.template import grid_markdown, rendered, write
from unseen.report.verdict_tables import display
from unseen.results import Picture, Result

__all__ = ["Picture", "sentences", "write_verdict"]

FORMAT = "unseen-verdict-1"

RESAMPLES = 1000

WORST = 15
"""Lines of the table of worst images, shared by the models but at least `LEAST` of each."""

LEAST = 3

STAGES = 24
"""Images that the page shows before and after, worst first."""


def write_verdict(
    results: Sequence[Result],
    pictures: Sequence[Picture],
    folder: Path | str,
    reference: str | None = None,
    *,
    refused: Mapping[str, str] | None = None,
) -> Path:
    """Write `verdict.html` (one file, nothing fetched), `verdict.md` with figures, `verdict.csv` and `verdict.json`.

    `reference` names the model that the others are tested against (default: that of the first result). `pictures` may
    be of any images of any suites, also none. `refused` are files that were not taken, and why, to be listed. The same
    input gives the same bytes. Returns the path of the page. Raises DataError without results, ConfigError where
    `reference` is none of them.
    """
    folder = Path(folder)
    found = compare(results, reference, RESAMPLES)
    shots = _stages(found, pictures)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {f"{chart.quantity}.png": charts.png(found, chart) for chart in charts.charts(found)}
    if shots:
        drawn["worst.png"] = _sheet(shots[:8])
    for name in ("gain.png", "removed.png", "worst.png"):
        if name in drawn:
            write(folder / name, drawn[name])
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier verdict
    written = verdict_tables.frame(found).to_csv(index=False, lineterminator="\n")
    write(folder / "verdict.csv", written.encode())
    write(folder / "verdict.json", (json.dumps(_json(found, refused or {}), indent=1) + "\n").encode())
    write(folder / "verdict.md", _markdown(found, drawn, refused or {}).encode())
    write(folder / "verdict.html", _html(found, shots, refused or {}).encode())
    return folder / "verdict.html"


def sentences(results: Sequence[Result], reference: str | None = None) -> list[str]:
    """One sentence per result, in their order: what its model does on unseen degradations."""
    found = compare(results, reference, RESAMPLES)
    labels = {entrant.result.id: entrant.label for entrant in found.entrants}
    return [sentence(found, labels[result.id]) for result in results]


def question(found: Comparison) -> str:
    if len(found.entrants) == 1:
        return f"What does {found.entrants[0].label} do with degradations it has never seen?"
    return f"What do {count(len(found.entrants), 'restorer')} do with degradations they have never seen?"


def how_to_read(found: Comparison) -> list[str]:
    """The rules behind the words, and what the intervals are."""
    names = ", ".join(found.headline.suites)
    return [
        f"The headline is the mean over {found.headline.name}, each suite counting the same: {names or 'no suite'}.",
        f"removes: at least {REMOVED:g} of the degradation is taken out (removal ratio; of noise and blur, and "
        "where the mask is empty, 1 less the retention a), and the whole interval of the gain is above 0.",
        f"harms: the whole interval of the gain is below 0, and its mean by {NOTICED:g} dB or more; or, for a model as "
        "a whole, the gain is not above 0 for certain and clean images are spoilt (mean PSNR below "
        f"{UNHARMED:g} dB). leaves: all else.",
        "A model's word and sentence are on those suites of the headline that it has not seen.",
        f"Intervals are of {100 * LEVEL:g} %: percentiles over {RESAMPLES:,} draws of images with replacement within "
        "each suite, the same draws for every model. They say what other images would change, not what another "
        "training run would.",
        "Differences from the reference are tested image by image on each suite (Wilcoxon's signed-rank test, p after "
        "Holm's correction over suites), and called clear where p is below 0.05 and the interval excludes 0; for a "
        "mean over suites the interval decides.",
        "identity, median and box know nothing: what one of them also reaches is no result.",
    ]


@dataclass(frozen=True)
class Stage:
    """One degraded image, and what each model made of it. `gain` is the lowest of these, dB."""

    suite: str
    image: str
    gain: float
    before: float
    degraded: pictures.Pixels
    clean: pictures.Pixels | None
    shots: tuple[tuple[str, pictures.Pixels, float], ...]


def _stages(found: Comparison, given: Sequence[Picture]) -> list[Stage]:
    """Worst first. PSNR is that of the rows (as the suite reads it), else of the 8-bit pictures in RGB."""
    known = {(i.label, i.suite, i.image): (i.before, i.after) for e in found.entrants for i in found.images(e.label)}
    clean = {(e.label, suite) for e in found.entrants for suite in e.of_group("clean")}
    tests = {e.label: {suite.name: suite.content for suite in e.result.suites} for e in found.entrants}
    lots: dict[tuple[str, str | None, str], dict[str, Picture]] = {}
    for picture in given:
        label = _label_of(found, picture)
        if label is not None and (label, picture.suite) not in clean:
            test = tests[label].get(picture.suite)  # what models have seen goes by one name, and may differ
            lots.setdefault((picture.suite, test, picture.image), {})[label] = picture
    stages = []
    for (suite, _, image), lot in lots.items():
        first = next(iter(lot.values()))
        shots, gains, before = [], [], pictures.psnr(first.degraded, first.clean)
        for label, picture in lot.items():
            mine = (before, pictures.psnr(picture.restored, first.clean))
            before, after = known.get((label, suite, image), mine)
            shots.append((label, picture.restored, after))
            gains.append(after - before)
        stages.append(Stage(suite, image, min(gains), before, first.degraded, first.clean, tuple(shots)))
    return sorted(stages, key=lambda stage: (stage.gain != stage.gain, stage.gain))[:STAGES]


def _label_of(found: Comparison, picture: Picture) -> str | None:
    """Of the first result of that model that has the suite."""
    for entrant in found.entrants:
        if picture.model in (entrant.label, entrant.result.model.name) and picture.suite in entrant.result.rows:
            return entrant.label
    return None


def _encoded(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """For the template, with pictures as data URIs, all within the page's budget."""
    lot: list[pictures.Pixels] = []

    def place(image: pictures.Pixels | None) -> int:
        if image is None:
            return -1
        lot.append(image)
        return len(lot) - 1

    planned = []
    for stage in stages:
        shots = [
            (name, place(image), place(pictures.residual(image, stage.clean)), psnr)
            for name, image, psnr in stage.shots
        ]
        planned.append((stage, place(stage.degraded), place(stage.clean), shots))
    uris = [*pictures.encoded(lot), ""]  # -1: none
    return [
        {
            "title": f"{stage.suite}, {stage.image}",
            "flag": f"{display('gain', stage.gain)} dB" if stage.gain == stage.gain else "",
            "alt": f"Degraded image {stage.image} of suite {stage.suite}",
            "says": f"degraded, {display('psnr', stage.before)} dB",
            "degraded": uris[degraded],
            "clean": uris[clean],
            "mask": "",
            "size": (stage.degraded.shape[1], stage.degraded.shape[0]),
            "shots": [
                {
                    "name": name,
                    "image": uris[image],
                    "residual": uris[wrong],
                    "says": f"restored, {display('psnr', psnr)} dB",
                }
                for name, image, wrong, psnr in shots
            ],
        }
        for stage, degraded, clean, shots in planned
    ]


def _sheet(stages: Sequence[Stage]) -> bytes:
    names = list(dict.fromkeys(name for stage in stages for name, _, _ in stage.shots))[:6]
    lines = []
    for stage in stages:
        shots = {name: image for name, image, _ in stage.shots}
        lines.append((stage.suite, [stage.degraded, *(shots.get(name) for name in names), stage.clean]))
    return pictures.sheet(["degraded", *names, "clean"], lines)


@dataclass(frozen=True)
class Card:
    """A model's verdict."""

    label: str
    word: str
    sentence: str
    reference: bool
    leaks: int


def _cards(found: Comparison) -> list[Card]:
    many = len(found.entrants) > 1
    return [
        Card(e.label, verdict(found, e.label), sentence(found, e.label), many and e.label == found.reference, e.leaks)
        for e in found.entrants
    ]


def _tiles(found: Comparison) -> list[tuple[str, str, str]]:
    """(figure, what it is, interval) of a single model."""
    if len(found.entrants) != 1:
        return []
    entrant = found.entrants[0]
    label, place = entrant.label, found.judged[entrant.label]
    gain, removed, gap = found.of(label, place, "gain"), found.of(label, place, "removed"), found.gap(label)
    seen = found.of(label, SEEN, "gain")
    tiles = []
    for estimate, quantity, what in (
        (gain, "gain", f"gain over the input, {count(len(place.suites), 'suite')} of {place.name}"),
        (removed, "removed", "share of the degradation removed on the same: 1 took it out, 0 did nothing"),
        (seen, "gain", "gain on what it has seen"),
        (gap, "gain", "generalisation gap"),
    ):
        if estimate.defined:
            entry = verdict_tables.shown(quantity, estimate, sign=quantity == "gain")
            tiles.append((entry.text + (" dB" if quantity == "gain" else ""), what, entry.half))
    for suite in entrant.of_group("clean")[:1]:
        entry = verdict_tables.shown("psnr", found.of(label, suite, "psnr"))
        tiles.append((f"{entry.text} dB", "PSNR of clean images", entry.half))
    return tiles


def _suite_lines(found: Comparison) -> list[dict[str, Any]]:
    """What each suite is, and to whom it is what."""
    lines = []
    for info in found.suites:
        groups: dict[str, list[str]] = {}
        for entrant in found.entrants:
            if info.name in entrant.shared:
                groups.setdefault(entrant.group(info.name), []).append(entrant.label)
        read = [info.color.upper()]
        read += [f"{info.border} pixels of border left out"] if info.border else []
        read += ["aligned"] if info.align else []
        lines.append(
            {
                "info": info,
                "groups": [(group, len(groups) > 1 and ", ".join(who)) for group, who in groups.items()],
                "outside": info.outside if len(found.entrants) == 1 else (),
                "read": ", ".join(read),
                "definition": _definition(info.definition),
            }
        )
    return lines


def _definition(definition: Mapping[str, Any]) -> str:
    text = json.dumps(definition, indent=1, sort_keys=True)
    return text if len(text) <= 4000 else text[:4000] + "\n..."


def _submissions(found: Comparison) -> list[dict[str, Any]]:
    """Who was judged, where and how, so that it can be done again."""
    found_ = []
    for entrant in found.entrants:
        result, model = entrant.result, entrant.result.model
        facts = [
            ("kind", model.kind),
            ("parameters", "-" if model.parameters is None else f"{model.parameters:,}"),
            ("weights", model.content or "-"),
            ("training steps", "-" if model.step < 0 else f"{model.step:,}"),
            ("trained on", model.trained_on or "not known"),
            ("time", _time(result)),
            ("leaks", _leaks(entrant)),
            ("date", result.date or "-"),
            ("result", result.id),
            *((key, str(value)[:500]) for key, value in result.environment.items()),
        ]
        notes = [*result.notes, *(f"{suite}: not compared, {why}" for suite, why in entrant.apart.items())]
        found_.append({"label": entrant.label, "facts": facts, "command": result.command, "notes": notes})
    return found_


def _time(result: Result) -> str:
    if result.seconds_per_megapixel is None:
        return "-"
    seconds = result.seconds_per_megapixel
    return f"{duration(seconds) if seconds >= 120 else f'{seconds:.3g} s'} per megapixel"


def _leaks(entrant: Entrant) -> str:
    if entrant.result.leaks is None:
        return "not looked for"
    return f"{entrant.leaks} test images were trained on" if entrant.leaks else "none found"


def _worst(found: Comparison) -> list[list[str]]:
    return [
        [
            image.image,
            image.suite,
            verdict_tables.head(found, image.label),
            display("psnr", image.before),
            display("psnr", image.after),
            verdict_tables.display("gain", image.gain),
        ]
        for image in found.worst(max(LEAST, WORST // len(found.entrants)))
    ]


_WORST_HEADS = ["image", "suite", "model", "input, dB", "restored, dB", "gain, dB"]


def _html(found: Comparison, shots: Sequence[Stage], refused: Mapping[str, str]) -> str:
    stages = _encoded(shots)
    return rendered(
        "verdict.html.jinja",
        question=question(found),
        found=found,
        many=len(found.entrants) > 1,
        cards=_cards(found),
        tiles=_tiles(found),
        caveats=caveats(found),
        charts=[(chart, Markup(charts.svg(found, chart))) for chart in charts.charts(found)],
        pens=charts.PENS,
        hidden=max(0, len(found.entrants) - charts.LARGEST),
        words=charts.WORD_COLOURS,
        glance=verdict_tables.glance_table(found),
        decoupled=verdict_tables.decoupled_table(found),
        maskless=verdict_tables.maskless(found),
        matrix=verdict_tables.matrix(found),
        differences=verdict_tables.differences_table(found),
        full=verdict_tables.full_tables(found),
        worst=_worst(found),
        worst_heads=_WORST_HEADS,
        stages=stages,
        settings=list(dict.fromkeys(shot["name"] for stage in stages for shot in stage["shots"])),
        amplified=pictures.AMPLIFIED,
        suites=_suite_lines(found),
        submissions=_submissions(found),
        refused=refused,
        how=how_to_read(found),
    )


def _json(found: Comparison, refused: Mapping[str, str]) -> dict[str, Any]:
    plain = verdict_tables.plain
    scopes = [{"name": s.name, "suites": s.suites, "missing": s.missing} for s in found.scopes]
    models = []
    for entrant in found.entrants:
        label = entrant.label
        standing = found.standings.get(label)
        models.append(
            {
                "model": label,
                "result": entrant.result.id,
                "info": entrant.result.model.model_dump(mode="json"),
                "verdict": verdict(found, label),
                "sentence": sentence(found, label),
                "judged_on": found.judged[label].suites,
                "spoils_clean_images": spoils(found, label),
                "leaks": None if entrant.result.leaks is None else entrant.leaks,
                "gap": plain(found.gap(label)),
                "error": plain(found.error(label)),
                "rank": plain(standing.rank) if standing else None,
                "place": plain(standing.place) if standing else None,
                "apart": entrant.apart,
            }
        )
    return {
        "format": FORMAT,
        "question": question(found),
        "reference": found.reference,
        "level": LEVEL,
        "resamples": RESAMPLES,
        "thresholds": {"removed": REMOVED, "unharmed": UNHARMED},
        "headline": scopes[0],
        "means": scopes,
        "models": models,
        "suites": [info.model_dump(mode="json") for info in found.suites],
        "records": verdict_tables.as_json(found),
        "caveats": caveats(found),
        "duplicates": found.duplicates,
        "refused": refused,
    }


def _markdown(found: Comparison, drawn: Mapping[str, bytes], refused: Mapping[str, str]) -> str:
    many = len(found.entrants) > 1
    parts = [f"# {_safe(question(found))}"]
    parts.append(
        "\n".join(
            f"- **{card.word or 'no verdict'}**: {_safe(card.sentence)}{' (the reference)' if card.reference else ''}"
            for card in _cards(found)
        )
    )
    if notes := caveats(found):
        parts.append("\n".join(f"> {_safe(note)}\n>" for note in notes).removesuffix("\n>"))
    for chart in charts.charts(found):
        if f"{chart.quantity}.png" in drawn:
            parts += [f"## {chart.title}", f"![{chart.title}, {chart.note}]({chart.quantity}.png)"]
    parts += ["## At a glance", _table_markdown(verdict_tables.glance_table(found))]
    if decoupled := verdict_tables.decoupled_table(found):
        parts += [f"## {decoupled.title}", _table_markdown(decoupled)]
    parts += ["## Every suite", _matrix_markdown(verdict_tables.matrix(found))]
    if differences := verdict_tables.differences_table(found):
        parts += ["## Against the reference", _table_markdown(differences)]
    parts += ["## Worst images", grid_markdown(_WORST_HEADS, [[_safe(t) for t in line] for line in _worst(found)])]
    if "worst.png" in drawn:
        parts.append("![The images restored worst: degraded, restored, clean](worst.png)")
    heads = ["suite", "kind", "images", "read on", "content", "to whom"]
    lines = []
    for line in _suite_lines(found):
        info = line["info"]
        groups = "; ".join(f"{group} ({who})" if who else group for group, who in line["groups"])
        lines.append([info.name, info.kind, str(info.images), line["read"], info.content, groups])
    parts += ["## Suites", grid_markdown(heads, [[_safe(text) for text in line] for line in lines])]
    parts.append("## What was judged")
    for one in _submissions(found):
        facts = "; ".join(f"{key}: {value}" for key, value in one["facts"])
        parts.append(f"### {_safe(one['label'])}" if many else "")
        parts.append(_safe(facts))
        parts += [_code(one["command"])] if one["command"] else []
        parts += ["\n".join(f"- {_safe(note)}" for note in one["notes"])] if one["notes"] else []
    if refused or found.duplicates:
        lines = [f"- {name}: {why}" for name, why in refused.items()]
        lines += [f"- {name}: given more than once, counted once" for name in found.duplicates]
        parts += ["## Not taken", "\n".join("- " + _safe(line[2:]) for line in lines)]
    parts += ["## How to read this", "\n".join(f"- {_safe(line)}" for line in how_to_read(found))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table_markdown(table: Table) -> str:
    names = [name for name, columns, _ in table.groups for _ in range(columns)] or [""] * len(table.columns)
    heads = [f"{name}: {title}" if name else title for name, (title, _) in zip(names, table.columns, strict=True)]
    lines = []
    for line in table.lines:
        note = " (reference)" if line.kind == "reference" else ""
        entries = [f"{e.text} ({e.half})" if e.half else e.text for e in line.entries]
        marked = [f"**{text}**" if e.bold else text for text, e in zip(entries, line.entries, strict=True)]
        lines.append([_safe(line.head) + note, *marked])
    return grid_markdown([table.head, *(_safe(text) for text in heads)], lines, right=True)


def _matrix_markdown(matrix: verdict_tables.Matrix) -> str:
    heads = [f"{title} ({reading})" for title, reading, _ in matrix.columns]
    lines = [[_safe(name), *(_safe(cell.text) for cell in cells)] for name, _, cells in matrix.lines]
    return grid_markdown(["model", *(_safe(text) for text in heads)], lines)


def _safe(text: str) -> str:
    """Text that Markdown shows as it is: a name from a stranger is no link, no image and no tag."""
    text = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]#!~])", r"\\\1", text)


def _code(text: str) -> str:
    """A block that the text cannot end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
