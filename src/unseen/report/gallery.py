"""The gallery: what restorers changed in images that have no ground truth, as one self-contained page.

It shows and measures changes. Whether one is for the better it does not say, because without a truth nobody can.
"""

import base64
import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from unseen.evaluation.change import BAND, DIRECTIONS, LEVELS, NOTHING, SCALES, Change
from unseen.report.pictures import AMPLIFIED
from unseen.report.printed import Entry, Line, Table
from unseen.report.template import rendered, write

SIDE = 640
"""The longer side of a picture on the page, pixels, at most."""

DETAIL = 400
"""Side of the square shown at full size beside an image that had to be scaled down a good deal, pixels."""

BUDGET = 12_000_000
"""Bytes that all pictures of a page may take, as text."""

OWN = 1.5
"""A change has a direction of its own where a band holds so many times the share that the images have there."""

CONCENTRATED = 0.1
"""A mean direction is printed from this concentration on: below, all directions are nearly alike."""

_STEPS = ((SIDE, 85), (SIDE, 75), (512, 70), (400, 65), (320, 60), (240, 50), (160, 45))  # side, quality of WebP
_SCALED = 1.5  # from how much scaling down a detail is shown
_COARSE = 16  # the place of a detail is looked for in steps of so many pixels

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """Where restored images come from. `note` says what it is, e.g. "PReNet, 168,963 parameters"."""

    name: str
    note: str = ""
    baseline: bool = False


@dataclass(frozen=True)
class Shot:
    """One image by one source: pictures as data URIs ("" where there is no room, or no need of a detail)."""

    change: Change
    after: str
    removed: str
    detail_after: str
    detail_removed: str


@dataclass(frozen=True)
class Card:
    """One image. `shots` and `failed` (a reason) are by the name of the source."""

    name: str
    width: int
    height: int
    before: str
    detail: str
    shots: dict[str, Shot]
    failed: dict[str, str]


@dataclass
class Gallery:
    """Collects images, keeping of each its numbers and small pictures only; `write` makes the page.

    `expected` is the number of images to come: they share `budget` bytes, and what one leaves over is for the others.
    """

    title: str
    sources: tuple[Source, ...]
    expected: int
    budget: int = BUDGET
    cards: list[Card] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        name: str,
        before: Pixels,
        restored: Mapping[str, Pixels],
        changes: Mapping[str, Change],
        failed: Mapping[str, str] | None = None,
    ) -> None:
        """An image, (h, w, 3), with what sources made of it and what they changed, by the name of the source."""
        afters = {source.name: restored[source.name] for source in self.sources if source.name in restored}
        pictures = [before, *afters.values(), *(removed(before, after) for after in afters.values())]
        details: list[Pixels] = []
        if max(before.shape) > _SCALED * SIDE and afters:
            top, left = most_changed(before, list(afters.values()))
            details = [picture[top : top + DETAIL, left : left + DETAIL] for picture in pictures]
        used = sum(len(uri) for card in self.cards for uri in _uris(card))
        left_over = max(1, self.expected - len(self.cards) - len(self.unread))
        uris = fitted(pictures, (self.budget - used) // left_over, details)
        n = len(afters)
        whole, detail = uris[: 1 + 2 * n], (uris[1 + 2 * n :] or [""] * (1 + 2 * n))
        shots = {
            source: Shot(changes[source], whole[1 + k], whole[1 + n + k], detail[1 + k], detail[1 + n + k])
            for k, source in enumerate(afters)
        }
        height, width = before.shape[:2]
        self.cards.append(Card(name, width, height, whole[0], detail[0], shots, dict(failed or {})))

    def fail(self, name: str, reason: str) -> None:
        """An image that could not be read."""
        self.unread[name] = reason

    def changes(self, source: str) -> list[tuple[str, Change]]:
        """Name of the image and change, for all that the source restored."""
        return [(card.name, card.shots[source].change) for card in self.cards if source in card.shots]

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """(image, source or "", reason) of all that went wrong."""
        found = [(name, "", reason) for name, reason in self.unread.items()]
        return found + [(card.name, source, reason) for card in self.cards for source, reason in card.failed.items()]

    @property
    def without_pictures(self) -> int:
        """How many images the page had no room to show."""
        return sum(not card.before for card in self.cards)

    def summaries(self) -> list[dict[str, Any]]:
        """For each source its sentences and pooled numbers, as plain values."""
        return [{"model": source.name, "note": source.note, **summary(self, source)} for source in self.sources]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each image and source: every number there is."""
        return [
            _row(card.name, source, (card.width, card.height), shot.change)
            for card in self.cards
            for source, shot in card.shots.items()
        ]

    def write(self, folder: Path | str, command: str = "", saved: str = "") -> Path:
        """Write `gallery.html` (one file, nothing fetched) and `changes.csv`. Returns the path of the page."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        table = csv.DictWriter(text, list(_columns()), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows())
        write(folder / "changes.csv", text.getvalue().encode("utf-8", "backslashreplace"))
        write(folder / "gallery.html", self.html(command, saved).encode("utf-8", "backslashreplace"))
        return folder / "gallery.html"

    def html(self, command: str = "", saved: str = "") -> str:
        """The page as text: the most changed images first."""
        names = [source.name for source in self.sources]

        def order(numbered: tuple[int, Card]) -> tuple[float, int]:
            shot = numbered[1].shots.get(names[0])
            return (-shot.change.rms if shot else math.inf, numbered[0])

        return rendered(
            "gallery.html.jinja",
            gallery=self,
            cards=sorted(enumerate(self.cards), key=order),
            names=names,
            summaries=self.summaries(),
            overview=overview(self),
            strip=Markup(strip(self)) if self.cards else "",
            roses={source.name: _pooled_rose(self, source.name) for source in self.sources},
            rose=lambda change: Markup(rose(change.removed.direction_shares, change.before.spectrum.direction_shares)),
            numbers=numbers,
            scales=scales,
            amplified=AMPLIFIED,
            levels=LEVELS,
            nothing=NOTHING,
            band=BAND,
            side=SIDE,
            detail=DETAIL,
            command=command,
            saved=saved,
        )


def removed(before: Pixels, after: Pixels) -> Pixels:
    """The signed difference `before - after`, amplified around grey: light was taken out, dark was put in."""
    grey = 128
    return np.clip(grey + AMPLIFIED * (before.astype(np.int16) - after), 0, 255).astype(np.uint8)


def most_changed(before: Pixels, afters: Sequence[Pixels]) -> tuple[int, int]:
    """Top and left of the window of `DETAIL` pixels in which most was changed, over all sources."""
    height, width = before.shape[:2]
    energy = np.zeros((-(-height // _COARSE), -(-width // _COARSE)))
    for row in range(energy.shape[0]):  # in strips: memory stays small
        part = slice(row * _COARSE, (row + 1) * _COARSE)
        for after in afters:
            change = before[part].astype(np.int32) - after[part]
            energy[row] += np.add.reduceat(np.square(change).sum(axis=(0, 2)), range(0, width, _COARSE))
    total = np.pad(energy, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows, columns = (min(DETAIL // _COARSE, side) for side in energy.shape)
    sums = total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return min(int(top) * _COARSE, max(0, height - DETAIL)), min(int(left) * _COARSE, max(0, width - DETAIL))


def fitted(images: Sequence[Pixels], allowance: int, details: Sequence[Pixels] = ()) -> list[str]:
    """WebP data URIs, all of one quality and size so that they compare, within `allowance` bytes; else all "".

    Images are scaled down, `details` are cut to the middle instead.
    """
    for side, quality in _STEPS:
        uris, total = [], 0
        for image in [*images, *(_middle(detail, side) for detail in details)]:
            uris.append(_uri(image, side, quality))
            total += len(uris[-1])
            if total > allowance:
                break
        else:
            return uris
    return [""] * (len(images) + len(details))


def _middle(image: Pixels, side: int) -> Pixels:
    top, left = (max(0, length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _uri(image: Pixels, side: int, quality: int) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _uris(card: Card) -> Iterable[str]:
    yield from (card.before, card.detail)
    for shot in card.shots.values():
        yield from (shot.after, shot.removed, shot.detail_after, shot.detail_removed)


def summary(gallery: Gallery, source: Source) -> dict[str, Any]:
    """What a source did to all images: `sentences` for people, and the numbers behind them."""
    changes = [change for _, change in gallery.changes(source.name)]
    if not changes:
        return {"images": 0, "sentences": [f"{source.name} restored none of the images."]}
    rms = np.array([change.rms for change in changes])
    nothing = sum(change.nothing for change in changes)
    directions, own = _pooled(changes)
    scales = _shares(np.array([change.removed.by_scale for change in changes]))
    kept = _median([change.contrast_kept for change in changes])
    return {
        "images": len(changes),
        "sentences": _sentences(source.name, rms, nothing, directions, own, scales),
        "rms_median": float(np.median(rms)),
        "rms_low": float(rms.min()),
        "rms_high": float(rms.max()),
        "practically_nothing": nothing,
        "nothing_threshold": NOTHING,
        "changed_median": float(np.median([change.changed for change in changes])),
        "shift_median": float(np.median([change.shift for change in changes])),
        "darkening_median": _median_of([change.darkening for change in changes]),
        "removed_by_direction": dict(zip(map(str, DIRECTIONS), directions.tolist(), strict=True)),
        "input_by_direction": dict(zip(map(str, DIRECTIONS), own.tolist(), strict=True)),
        "removed_by_scale": dict(zip(SCALES, scales.tolist(), strict=True)),
        "contrast_kept": dict(zip(SCALES, kept.tolist(), strict=True)),
        "blur_before": _median_of([change.before.blur for change in changes]),
        "blur_after": _median_of([change.after.blur for change in changes]),
    }


def _pooled(changes: Sequence[Change]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of the bands of directions, of all that was removed and of the images themselves."""
    return (
        _shares(np.array([change.removed.by_direction for change in changes])),
        _shares(np.array([change.before.spectrum.by_direction for change in changes])),
    )


def _shares(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of energies (image, band), summed over the images that have them; NaN where none has any."""
    total = energies[~np.isnan(energies).any(axis=1)].sum(axis=0)
    return total / total.sum() if total.sum() > 0 else np.full(total.shape, math.nan)


def _median(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([_median_of(column) for column in np.array(values).T])


def _median_of(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def _sentences(
    name: str,
    rms: NDArray[np.float64],
    nothing: int,
    directions: NDArray[np.float64],
    own: NDArray[np.float64],
    scales: NDArray[np.float64],
) -> list[str]:
    if rms.max() == 0:
        return [f"{name} changes nothing at all: {_all(len(rms))} as before."]
    where = "the one image" if len(rms) == 1 else "the median image"
    spread = "" if len(rms) == 1 else f" ({_levels(rms.min())} to {_levels(rms.max())})"
    little = f"practically nothing (less than {NOTHING:g}) on {nothing} of {len(rms)}"
    said = [f"{name} changes {_levels(float(np.median(rms)))} levels RMS on {where}{spread}; {little}."]
    if math.isnan(scales[0]):
        return said
    most = int(scales.argmax())
    text = f"Of what it took out, {_percent(scales[most])} is in details {SCALES[most]}"
    place = int(np.argmax(directions - own))
    if directions[place] >= OWN * own[place]:
        text += (
            f", and {_percent(directions[place])} lies along streaks at about {DIRECTIONS[place]} degrees from "
            f"vertical, where the images themselves have {_percent(own[place])}."
        )
    else:
        text += "; its directions are much like those of the images themselves."
    return [*said, text]


def _all(count: int) -> str:
    return "the one image is" if count == 1 else f"all {count} images are"


def _levels(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}"


def _percent(share: float) -> str:
    return (
        "-" if math.isnan(share) else f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"
    )


def _signed(value: float) -> str:
    text = f"{value:+.2f}" if abs(value) < 1 else f"{value:+.1f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def _fraction(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def numbers(change: Change) -> list[tuple[str, str]]:
    """What is printed beside an image."""
    removed = change.removed
    lines = [
        ("change, RMS levels", _levels(change.rms)),
        (f"pixels changed by > {LEVELS}", _percent(change.changed)),
        ("shift of the mean, levels", _signed(change.shift)),
        ("of the change, darkening", _percent(change.darkening)),
    ]
    if removed.concentration >= CONCENTRATED:
        lines.append(("mean direction removed", f"{removed.direction:.0f}\u00b0"))
    if not math.isnan(removed.concentration):
        lines.append(("how concentrated", _fraction(removed.concentration)))
    if not math.isnan(change.before.blur):
        lines.append(("blur effect", f"{_fraction(change.before.blur)} to {_fraction(change.after.blur)}"))
    return lines


def scales(change: Change) -> list[tuple[str, str, str]]:
    """For every size of detail its share of what was removed, and the contrast kept; empty where unknown."""
    if np.isnan(change.removed.by_scale).any():
        return []
    found = zip(SCALES, change.removed.scale_shares.tolist(), change.contrast_kept.tolist(), strict=True)
    return [(scale, _percent(share), _percent(kept)) for scale, share, kept in found]


def overview(gallery: Gallery) -> Table:
    """A line for each source."""
    columns = (
        ("RMS", "median over images of the change, root mean square, in levels"),
        ("least", "of any image"),
        ("most", "of any image"),
        ("nothing", f"images changed by less than {NOTHING:g} level RMS"),
        ("pixels", f"median share of pixels changed by more than {LEVELS} levels"),
        ("mean", "median shift of the mean, levels; below 0: darker"),
        ("darkening", "median share of the squared change that darkens"),
        *((scale, "median contrast after, relative to before, in details of this size") for scale in SCALES),
        ("before", "median blur effect before, 0 sharp to 1 blurred"),
        ("after", "median blur effect after"),
    )
    lines = []
    for source, found in zip(gallery.sources, gallery.summaries(), strict=True):
        if not found["images"]:
            continue
        entries = [
            Entry(_levels(found["rms_median"])),
            Entry(_levels(found["rms_low"])),
            Entry(_levels(found["rms_high"])),
            Entry(f"{found['practically_nothing']} of {found['images']}"),
            Entry(_percent(found["changed_median"])),
            Entry(_signed(found["shift_median"])),
            Entry(_percent(found["darkening_median"])),
            *(Entry(_percent(kept)) for kept in found["contrast_kept"].values()),
            Entry(_fraction(found["blur_before"])),
            Entry(_fraction(found["blur_after"])),
        ]
        lines.append(Line(source.name, tuple(entries), "baseline" if source.baseline else "setting"))
    groups = (("change", 7, ""), ("contrast kept, by size of detail", len(SCALES), ""), ("blur effect", 2, ""))
    return Table("restored by", columns, tuple(lines), groups, "What was changed")


def _columns() -> Iterable[str]:
    """Of `changes.csv`."""
    yield from ("image", "model", "width", "height", "rms", "changed", "shift", "darkening", "direction")
    yield from ("concentration", "blur_before", "blur_after")
    for scale in SCALES:
        yield f"removed, {scale}"
    for scale in SCALES:
        yield f"contrast kept, {scale}"
    for direction in DIRECTIONS:
        yield f"removed, {direction} degrees"
    for direction in DIRECTIONS:
        yield f"input, {direction} degrees"


def _row(image: str, source: str, size: tuple[int, int], change: Change) -> dict[str, Any]:
    """Energies are mean squares in levels squared."""
    values = (
        *(image, source, *size, change.rms, change.changed, change.shift, change.darkening),
        *(change.removed.direction, change.removed.concentration, change.before.blur, change.after.blur),
        *change.removed.by_scale.tolist(),
        *change.contrast_kept.tolist(),
        *change.removed.by_direction.tolist(),
        *change.before.spectrum.by_direction.tolist(),
    )
    return dict(zip(_columns(), values, strict=True))


def rose(shares: NDArray[np.float64], own: NDArray[np.float64]) -> str:
    """Shares of the bands of directions as an SVG: wedges that lie as the streaks do, their area the share. Filled: of
    what was removed; outlined: of the image. A dashed ring: all directions alike. "" where nothing is known."""
    if np.isnan(shares).any() or np.isnan(own).any():
        return ""
    ring = _radius(1 / len(DIRECTIONS))
    strongest = DIRECTIONS[int(shares.argmax())]
    label = f"Most of what was removed, {_percent(float(shares.max()))}, lies along {strongest} degrees from vertical"
    return (
        f'<svg class="rose" viewBox="-60 -60 120 120" role="img" aria-label="{label}">'
        f'<circle r="{ring:.1f}" fill="none" stroke="var(--line)" stroke-dasharray="2 3"/>'
        f'<path d="M0-57V57M-57 0H57" stroke="var(--line)"/>'
        f'<path d="{_wedges(shares)}" fill="var(--u0)" fill-opacity=".75"/>'
        f'<path d="{_wedges(own)}" fill="none" stroke="var(--ink)" stroke-width=".8"/></svg>'
    )


def _radius(share: float) -> float:
    return min(57.0, 57 * math.sqrt(share / 0.5))


def _wedges(shares: NDArray[np.float64]) -> str:
    path = []
    for centre, share in zip(DIRECTIONS, shares.tolist(), strict=True):
        radius = _radius(share)
        for turn in (0, 180):
            ends = (math.radians(centre + turn + side * BAND / 2) for side in (-1, 1))
            (a, b), (c, d) = ((radius * math.sin(end), -radius * math.cos(end)) for end in ends)
            path.append(f"M0 0L{a:.1f} {b:.1f}A{radius:.1f} {radius:.1f} 0 0 1 {c:.1f} {d:.1f}Z")
    return "".join(path)


def _pooled_rose(gallery: Gallery, source: str) -> Markup:
    changes = [change for _, change in gallery.changes(source)]
    return Markup(rose(*_pooled(changes)) if changes else "")


def strip(gallery: Gallery) -> str:
    """Every image as a dot on a logarithmic scale of its change, a line for each source, as an SVG; dots are links."""
    low, high, left, right, step = 0.05, 60.0, 170, 940, 34

    def x(rms: float) -> float:
        place = math.log(max(low, min(high, rms)) / low) / math.log(high / low)
        return left + place * (right - left)

    anchors = {card.name: number for number, card in enumerate(gallery.cards)}
    bottom = step * len(gallery.sources) + 16
    parts = [
        f'<svg class="strip" viewBox="0 0 960 {bottom + 34}" role="group" '
        'aria-label="The change of every image, in levels">'
        f'<rect x="{left - 8}" y="6" width="{x(NOTHING) - left + 8:.1f}" height="{bottom - 6}" fill="var(--soft)"/>'
        f'<text x="{x(NOTHING) - 6:.1f}" y="20" text-anchor="end" class="hint">practically nothing</text>'
    ]
    for tick in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0):
        parts.append(
            f'<path d="M{x(tick):.1f} 6V{bottom}" stroke="var(--line)"/>'
            f'<text x="{x(tick):.1f}" y="{bottom + 14}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<text x="{right}" y="{bottom + 30}" text-anchor="end" class="hint">levels of 255, RMS</text>')
    for line, source in enumerate(gallery.sources):
        y = step * line + 36
        parts.append(f'<text x="0" y="{y + 4}" class="who">{Markup.escape(source.name[:24])}</text>')
        for number, (name, change) in enumerate(gallery.changes(source.name)):
            offset = (number * 7 % 5 - 2) * 2.6
            parts.append(
                f'<a href="#image-{anchors[name]}"><circle cx="{x(change.rms):.1f}" cy="{y + offset:.1f}" r="4">'
                f"<title>{Markup.escape(name)}: {_levels(change.rms)} levels</title></circle></a>"
            )
    return "".join(parts) + "</svg>"
