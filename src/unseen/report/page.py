"""The report: one self-contained page, the same as a text with figures beside it, and the tables as CSV."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from unseen import rows
from unseen.report import figures, pictures
from unseen.report.answer import BLIND, Answer, answer, count
from unseen.report.printed import Table, full_tables, headline_table, suites_table
from unseen.report.tables import MEAN, Estimate, Tables, cell_label, cells_table, summary_table, tabulate
from unseen.report.template import grid_markdown, rendered, write
from unseen.study.record import CellRecord, StudyRecord

CAPTIONS = {
    "along": "The same networks, judged while they were being trained. Bands are 95 % t intervals over seeds.",
    "bands": "Octave by octave, from coarse to fine: how much of the degradation is left (0: none; 1: all; "
    "below 0: taken out twice), and what is wrong in all; over several draws of a noise also what of it leaked "
    "through, and what was done to the content. Bands are 95 % t intervals over seeds.",
    "loss": "Training loss, a running mean; one line for each network.",
}


def captions(tables: Tables) -> dict[str, str]:
    """What stands below the figures, by their kind."""
    masked = MEAN not in tables.maskless
    blind = f"a removal ratio below {BLIND:g}" if masked else f"a share of more than {1 - BLIND:g} kept"
    return CAPTIONS | {
        "curves": "Every quantity at the end of training. Shaded bands (seen, mean of unseen) and thin bars (each "
        "unseen suite) are 95 % t intervals over seeds, cut off where they are far wider than what they are about. "
        "Dotted lines: what the identity, a median filter and a box blur score on the mean of unseen suites"
        f"{', and E_R of a perfect remover' if masked else ''}. Orange ground: {blind}, which is doing next to nothing."
    }


def _along_quantities(tables: Tables) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is drawn along training: at first sight, and besides."""
    apart = tables.told_apart(MEAN)
    return ("psnr_rgb", apart[0]), apart[1:]


def write_report(record: StudyRecord, folder: Path | str) -> Path:
    """Write `report.html` (one file, nothing fetched), `report.md` with its figures, `cells.csv` and `summary.csv`.

    Works for an unfinished study too, and says so. Returns the path of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = tabulate(record)
    said = answer(tables)
    found = list(pictures.samples(tables))
    drawn = _sheets(tables)
    if found:
        drawn["samples.png"] = pictures.contact_sheet(found)
    for name, content in drawn.items():
        write(folder / name, content)
    for name, frame in (("cells.csv", cells_table(tables)), ("summary.csv", summary_table(tables))):
        write(folder / name, frame.to_csv(index=False, lineterminator="\n").encode())
    write(folder / "report.md", markdown(tables, said, list(drawn)).encode())
    write(folder / "report.html", html(tables, said, found).encode())
    return folder / "report.html"


@dataclass(frozen=True)
class Ran:
    """`same` is what all finished networks ran with; `differs` are the columns in which they do not agree."""

    same: tuple[tuple[str, str], ...]
    differs: tuple[str, ...]
    cells: tuple[tuple[CellRecord, str, str, str, tuple[str, ...]], ...]
    total: str


def ran(tables: Tables) -> Ran:
    """Every cell with its state, time and environment."""
    record = tables.record
    keys = list(dict.fromkeys(key for cell in record.cells for key in cell.environment if key != "seconds"))
    started = [cell for cell in record.cells if cell.environment]
    same = [key for key in keys if len({str(cell.environment.get(key)) for cell in started}) == 1]
    differs = tuple(key for key in keys if key not in same)
    cells = []
    for cell in record.cells:
        state = "finished" if cell.rows is not None else "missing"
        if cell.rows is None and cell.log is not None and len(cell.log):
            state = f"begun, step {int(cell.log['step'].max()):,}"
        others = tuple(str(cell.environment.get(key, "-")) for key in differs)
        cells.append((cell, cell_label(record, cell), state, duration(cell.seconds), others))
    seconds = [cell.seconds for cell in record.cells if cell.seconds is not None]
    total = duration(sum(seconds)) if seconds else "-"
    return Ran(tuple((key, str(started[0].environment[key])) for key in same), differs, tuple(cells), total)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def progress(tables: Tables) -> str:
    """How much of the study there is."""
    total, done = len(tables.record.cells), tables.finished
    if done == total:
        return (
            f"All {count(total, 'network')} of this study are finished."
            if total != 1
            else "The one network is finished."
        )
    missing = [cell_label(tables.record, c) or c.id for c in tables.record.cells if c.rows is None]
    listed = "; ".join(missing[:12]) + (f"; and {len(missing) - 12} more" if len(missing) > 12 else "")
    return (
        f"This study is unfinished: {done} of {total} networks are done, and all that follows is of those. "
        f"Missing: {listed}."
    )


def seeds_note(tables: Tables) -> str:
    sizes = {len(setting.finished) for setting in tables.settings if setting.finished}
    if not sizes:
        return "No network is finished."
    if max(sizes) == 1:
        return "One seed for every value: there are no intervals, and none are shown."
    if len(sizes) == 1:
        return f"Mean \u00b1 half the 95 % t interval over {count(max(sizes), 'seed')}."
    return (
        f"Mean \u00b1 half the 95 % t interval over {min(sizes)} to {max(sizes)} seeds; "
        f"none where there is a single one."
    )


@dataclass(frozen=True)
class Grid:
    """Panels with their legend."""

    title: str
    panels: tuple[tuple[figures.Plot, Markup], ...]
    pens: tuple[figures.Pen, ...] = ()
    caption: str = ""


def _grids(tables: Tables) -> dict[str, list[Grid]]:
    found: dict[str, list[Grid]] = {"curves": [], "bands": [], "along": [], "more": [], "loss": []}
    suites = tuple(figures.suite_pens(tables).values())
    for place, series in enumerate(tables.series):
        pens = tuple(figures.setting_pens(tables, series).values())

        def drawn(plots: Iterable[figures.Plot], start: str) -> tuple[tuple[figures.Plot, Markup], ...]:
            return tuple((plot, Markup(figures.svg(plot, f"{start}-{n}"))) for n, plot in enumerate(plots))

        if panels := drawn(figures.curves(tables, series), f"c{place}"):
            found["curves"].append(Grid(series, panels, suites))
        for n, (quantity, title) in enumerate(figures.OCTAVES.items()):
            if panels := drawn(figures.bands(tables, series, quantity), f"b{place}{n}"):
                found["bands"].append(Grid(f"{title}; {series}" if series else title, panels, pens))
        for kind, quantities in zip(("along", "more"), _along_quantities(tables), strict=True):
            for n, quantity in enumerate(quantities):
                if panels := drawn(figures.along(tables, series, quantity), f"{kind[0]}{place}{n}"):
                    title = figures.title_of(quantity)
                    found[kind].append(Grid(f"{title}; {series}" if series else title, panels, pens))
        if plot := figures.losses(tables, series):
            found["loss"].append(Grid(series, drawn([plot], f"l{place}"), pens))
    return found


def _sheets(tables: Tables) -> dict[str, bytes]:
    """The figures as files, for the text."""
    found = {}
    suites = list(figures.suite_pens(tables).values())
    for place, series in enumerate(tables.series):
        end = f"-{place + 1}" if len(tables.series) > 1 else ""
        pens = list(figures.setting_pens(tables, series).values())
        if plots := figures.curves(tables, series):
            found[f"curves{end}.png"] = figures.sheet(plots, suites)
        if plots := [plot for quantity in figures.OCTAVES for plot in figures.bands(tables, series, quantity)]:
            found[f"bands{end}.png"] = figures.sheet(plots, pens)
        first, _ = _along_quantities(tables)
        if plots := [plot for quantity in first for plot in figures.along(tables, series, quantity)]:
            found[f"training{end}.png"] = figures.sheet(plots, pens)
        if plot := figures.losses(tables, series):
            found[f"loss{end}.png"] = figures.sheet([plot], pens, columns=1)
    return found


def _tiles(tables: Tables, said: Answer) -> list[tuple[str, str, str]]:
    """(figure, what it is, interval) beside the answer; only where there is one series to speak of."""
    comparison = said.comparisons[0] if len(said.comparisons) == 1 else None
    tiles = []
    if comparison is not None:
        who = f"{comparison.best.label} against ordinary training ({comparison.reference.label})"
        unseen, seen, change = comparison.unseen, comparison.seen, comparison.change
        if unseen.defined:
            tiles.append((f"{unseen.mean:+.2f} dB", f"PSNR on the mean of all unseen suites, {who}", _range(unseen)))
        if change.defined:
            tiles.append((f"{100 * change.mean:+.1f} %", "generalisation error", _range(change, 100.0, " %", 1)))
        if seen.defined:
            tiles.append((f"{seen.mean:+.2f} dB", "PSNR on the seen suite", _range(seen)))
    tiles.append((f"{tables.finished} of {len(tables.record.cells)}", "networks finished", ""))
    return tiles


def _range(estimate: Estimate, scale: float = 1.0, unit: str = " dB", decimals: int = 2) -> str:
    if not estimate.has_interval:
        return "no interval: one seed"
    return f"{scale * estimate.low:+.{decimals}f} to {scale * estimate.high:+.{decimals}f}{unit}"


def _stages(found: list[pictures.Sample]) -> list[dict[str, Any]]:
    """Samples with their pictures as data URIs, all within the page's budget."""
    lot: list[pictures.Pixels] = []

    def place(image: pictures.Pixels | None) -> int:
        if image is None:
            return -1
        lot.append(image)
        return len(lot) - 1

    planned = [
        (
            s,
            place(s.degraded),
            place(s.clean),
            place(s.mask),
            [(r, place(r.image), place(r.residual)) for r in s.restored],
        )
        for s in found
    ]
    uris = [*pictures.encoded(lot), ""]  # -1: none
    return [
        {
            "title": sample.suite.name,
            "flag": "" if sample.suite.group == sample.suite.name else sample.suite.group,
            "alt": f"Degraded sample of suite {sample.suite.name}",
            "says": f"degraded, {rows.display('psnr_rgb', sample.psnr)} dB",
            "degraded": uris[degraded],
            "clean": uris[clean],
            "mask": uris[mask],
            "size": (sample.degraded.shape[1], sample.degraded.shape[0]),
            "shots": [
                {
                    "name": r.setting.name,
                    "image": uris[image],
                    "residual": uris[wrong],
                    "says": f"restored, {rows.display('psnr_rgb', r.psnr)} dB",
                }
                for r, image, wrong in restored
            ],
        }
        for sample, degraded, clean, mask, restored in planned
    ]


def html(tables: Tables, said: Answer, found: list[pictures.Sample]) -> str:
    """The page as text."""
    stages = _stages(found)
    return rendered(
        "page.html.jinja",
        record=tables.record,
        tables=tables,
        said=said,
        tiles=_tiles(tables, said),
        progress=progress(tables),
        complete=tables.finished == len(tables.record.cells),
        seeds_note=seeds_note(tables),
        headline=headline_table(tables),
        uneven=len({(len(s.finished), len(s.cells)) for s in tables.settings}) > 1,
        by_suite=suites_table(tables),
        full=full_tables(tables),
        grids=_grids(tables),
        captions=captions(tables),
        along_note=along_note(tables),
        stages=stages,
        settings=list(dict.fromkeys(shot["name"] for stage in stages for shot in stage["shots"])),
        amplified=pictures.AMPLIFIED,
        ran=ran(tables),
    )


def along_note(tables: Tables) -> str:
    images = {number for suite, number in tables.along_images.items() if suite not in tables.clean}
    if not images:
        return ""
    number = f"{min(images)} to {max(images)}" if len(images) > 1 else str(min(images))
    return f"Every step, the last one too, over the same {number} images of each suite: those judged at every step."


def markdown(tables: Tables, said: Answer, drawn: list[str]) -> str:
    """The report as Markdown; `drawn` are the names of the figures beside it."""
    record = tables.record
    parts = [f"# {record.name}", f"*{record.question}*", *said.gain, *said.removal, *said.training]
    parts.append(progress(tables))
    if said.caveats or record.notes:
        parts.append("\n".join(f"- {note}" for note in (*said.caveats, *record.notes)))
    for start, title in (
        ("curves", "At the end of training"),
        ("bands", "Octave by octave"),
        ("training", "Along training"),
        ("loss", "Training loss"),
    ):
        files = [name for name in drawn if name.startswith(start)]
        if files:
            parts += [f"## {title}", *(f"![{title}]({name})" for name in files)]
            parts.append(
                " ".join(
                    filter(
                        None,
                        [
                            captions(tables)["along" if start == "training" else start],
                            along_note(tables) if start == "training" else "",
                        ],
                    )
                )
            )
    parts.append("## Tables")
    parts.append(seeds_note(tables))
    for table in (headline_table(tables), suites_table(tables)):
        parts += [f"### {table.title}", _markdown_table(table)]
    parts += ["## Suites", _suites_markdown(tables)]
    if "samples.png" in drawn:
        parts += ["## Samples", "![Degraded, restored and clean samples of every suite](samples.png)"]
    parts += ["## What ran where", f"`{record.command}`"]
    where = ran(tables)
    if where.same:
        parts.append("; ".join(f"{key}: {value}" for key, value in where.same))
    parts.append(
        grid_markdown(
            ["network", "place", "state", "time", *where.differs],
            [[cell.id, label, state, time, *others] for cell, label, state, time, others in where.cells],
        )
    )
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    groups = [name for name, columns, _ in table.groups for _ in range(columns)]
    heads = [f"{group}: {title}" for group, (title, _) in zip(groups, table.columns, strict=True)]
    lines = []
    for line in table.lines:
        note = " (ordinary training)" if line.kind == "reference" else ""
        entries = [f"{e.text} {e.half}".strip() for e in line.entries]
        lines.append(
            [line.head + note, *(f"**{t}**" if e.bold else t for t, e in zip(entries, line.entries, strict=True))]
        )
    return grid_markdown([table.head, *heads], lines, right=True)


def _suites_markdown(tables: Tables) -> str:
    lines = [[s.name, s.group, s.description, ", ".join(s.outside) or "-", str(s.images)] for s in tables.suites]
    return grid_markdown(["suite", "group", "what it is", "outside training in", "images"], lines)
