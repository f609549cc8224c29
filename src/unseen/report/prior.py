"""The ceiling of a content prior as one self-contained page and its rows. Imports no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unseen.report import pictures
from unseen.report.answer import listed
from unseen.report.template import rendered, write
from unseen.rows import BANDS, display, summarise, write_rows

SAME = 0.25
"""Distances to the manifold that differ by less than this, in dB, are called alike."""

RECONSTRUCTED = {
    "psnr_rgb": "PSNR, dB",
    "psnr_y": "PSNR Y, dB",
    "ssim_rgb": "SSIM",
    "reconstruction": "E_B",
    **{f"error_{band}": words.removeprefix("details ").removeprefix("of ") for band, words in BANDS.items()},
}
"""Quantities of a reconstruction against what went in, and how their columns are headed."""

RESTORED = {
    "input": "input, dB",
    "psnr_rgb": "PSNR, dB",
    "gain_rgb": "gain, dB",
    "removal_ratio": "removed",
    "residual": "residual",
    "retention": "retained",
    "reconstruction": "E_B",
}
"""The same against the clean image; `input` is the PSNR of what went in."""


@dataclass(frozen=True)
class Shot:
    """8-bit RGB, (h, w, 3): what went in, its reconstruction, the clean image; `title` for people."""

    title: str
    suite: str
    before: pictures.Pixels
    after: pictures.Pixels
    clean: pictures.Pixels


@dataclass(frozen=True)
class Found:
    """All that a page shows of a prior. `facts` are pairs of words and value; `rows` hold the experiments
    "reconstruction" and "restoration", their first suite being the clean images; seconds are per megapixel."""

    name: str
    on: str
    images: int
    facts: tuple[tuple[str, str], ...]
    rows: pd.DataFrame
    encoding: float
    decoding: float
    shots: tuple[Shot, ...]
    command: str = ""

    def lines(self, experiment: str) -> list[dict[str, Any]]:
        """The summary of an experiment, one dictionary a suite."""
        chosen = self.rows[self.rows.experiment == experiment]
        inputs = chosen[chosen.metric == "input_psnr_rgb"].groupby("suite")["value"].mean()
        return [
            {str(key): value for key, value in line.items()} | {"input": float(inputs[line["suite"]])}
            for line in summarise(chosen).to_dict("records")
        ]


def sentences(found: Found) -> list[str]:
    """What was found, in words: the ceiling, where detail is lost, and whether degraded images lie farther off."""
    clean, *degraded = found.lines("reconstruction")
    images = f"{found.images} images" if found.images > 1 else "one image"
    said = [
        f"{found.name} gives back {images} of {found.on} at {display('psnr_rgb', clean['psnr_rgb'])} dB: what passes "
        "through its decoder alone does not, as a rule, come closer to a clean image."
    ]
    shares = {band: clean[f"error_{band}"] ** 2 for band in BANDS}
    total = sum(shares.values())
    if total > 0:
        worst = max(shares, key=lambda band: shares[band])
        said.append(f"{shares[worst] / total:.0%} of the squared error lies in {BANDS[worst]}.")
    if degraded:
        apart = [(line["suite"], line["psnr_rgb"] - clean["psnr_rgb"]) for line in degraded]
        for words, those in (
            ("farther from what it can draw than clean ones", [one for one in apart if one[1] < -SAME]),
            ("closer to what it can draw than clean ones", [one for one in apart if one[1] > SAME]),
            ("about as close to what it can draw as clean ones", [one for one in apart if abs(one[1]) <= SAME]),
        ):
            if those:
                by = listed([f"{suite} ({difference:+.1f} dB)" for suite, difference in those])
                said.append(f"Degraded images lie {words} with {by}.")
    said.append(
        f"On this machine it takes {found.encoding:.2f} s per megapixel to encode and {found.decoding:.2f} s to decode."
    )
    return said


def table(lines: Sequence[dict[str, Any]], columns: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Heads and lines, the first column being the suite."""
    body = [
        [str(line["suite"]), *(display("psnr_rgb" if name == "input" else name, line[name]) for name in columns)]
        for line in lines
    ]
    return ["", *columns.values()], body


def numbers(found: Found) -> dict[str, Any]:
    """For JSON: what the page's tables hold, undefined numbers as null."""

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def named(line: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
        return {name: plain(line[name]) for name in ("suite", "images", *columns)}

    return {
        experiment: [named(line, columns) for line in found.lines(experiment)]
        for experiment, columns in (("reconstruction", RECONSTRUCTED), ("restoration", RESTORED))
    }


def write_prior(found: Found, folder: Path | str) -> Path:
    """Write `prior.html` (one file, nothing fetched) and `prior.parquet` (the rows). Returns the path of the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(found.rows, folder / "prior.parquet")
    write(folder / "prior.html", html(found).encode())
    return folder / "prior.html"


def html(found: Found) -> str:
    """The page as text."""
    return rendered(
        "prior.html.jinja",
        found=found,
        said=sentences(found),
        reconstructed=table(found.lines("reconstruction"), RECONSTRUCTED),
        restored=table(found.lines("restoration")[1:], RESTORED),
        stages=_stages(found),
        amplified=pictures.AMPLIFIED,
    )


def _stages(found: Found) -> list[dict[str, Any]]:
    """Shots as the sliders of a page take them."""
    lot = [image for shot in found.shots for image in (shot.before, shot.after, shot.clean, _wrong(shot))]
    uris = pictures.encoded(lot)
    stages = []
    for number, shot in enumerate(found.shots):
        before, after, clean, wrong = uris[4 * number : 4 * number + 4]
        close = display("psnr_rgb", pictures.psnr(shot.after, shot.before))
        decoded = {
            "name": found.name,
            "image": after,
            "residual": wrong,
            "says": f"decoded, {close} dB to what went in",
        }
        stages.append(
            {
                "title": shot.title,
                "flag": shot.suite,
                "alt": f"{shot.title}, {shot.suite}",
                "says": "what went in",
                "degraded": before,
                "clean": clean,
                "mask": "",
                "size": (shot.before.shape[1], shot.before.shape[0]),
                "shots": [decoded],
            }
        )
    return stages


def _wrong(shot: Shot) -> pictures.Pixels:
    found = pictures.residual(shot.after, shot.clean)
    assert found is not None
    return found
