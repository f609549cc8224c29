"""What a folder of files is: pairs of paths, by the layout that is asked for or by the only one that fits.

Looks at names only, but for side-by-side files, of which a few are decoded.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unseen.errors import ConfigError, DataError
from unseen.pair_folder.config import PairFolderConfig
from unseen.pair_folder.names import (
    CLEAN,
    DEGRADED,
    HOW_NAMES,
    Matched,
    listing,
    match_files,
    match_folders,
    match_patterns,
    plain,
    stem,
)
from unseen.pair_folder.sides import HOW_SIDES, Side, degraded_side, halves_alike

MASK = "mask"
"""A folder of this name beside the one of degraded images holds their masks, under the same names."""

LAYER = "layer"
"""A folder of this name beside it, as exported suites have, is not read."""

_HOW_FOLDERS = "If two folders hold the pairs, name them: degraded: input, clean: target."


@dataclass(frozen=True, slots=True)
class Pair:
    """Paths relative to the folder. `side` is the degraded half, where both images are in one file."""

    name: str
    degraded: str
    clean: str
    mask: str | None = None
    side: Side | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The pairs, how they were found (part of a sentence), and the files in none, with the reason."""

    pairs: list[Pair]
    how: str
    unmatched: list[str]


@dataclass(frozen=True, slots=True)
class _Siblings:
    """A folder of degraded and a folder of clean images; `parent` is "" or ends in a slash."""

    parent: str
    degraded: str
    clean: str

    def __str__(self) -> str:
        return f"{self.parent}{self.degraded}/ and {self.parent}{self.clean}/"


def find_pairs(folder: Path, files: Sequence[str], config: PairFolderConfig) -> Found:
    """The pairs among `files`, paths relative to `folder`. Raises `ConfigError`, `DataError` and `ImageError`."""
    if config.degraded is not None and config.clean is not None:
        if "{}" in config.degraded:
            return _by_patterns(folder, files, config.degraded, config.clean)
        return _in_folders(folder, files, _named_folders(folder, files, config.degraded, config.clean))
    if config.degraded_side is not None:
        return _side_by_side(files, config.degraded_side, "as degraded_side says")
    if config.layout == "side-by-side":
        return _side_by_side(files, *degraded_side(folder, files))
    if config.layout in ("auto", "folders"):
        siblings = _sibling_folders(files)
        if siblings:
            return _in_folders(folder, files, [_only(folder, siblings)])
        if config.layout == "folders":
            raise DataError(f"No two folders of pairs in {folder}: {_seen(files)}. {_HOW_FOLDERS}")
    matched = match_files(str(folder), files)
    if matched is not None:
        return _told_apart(files, matched)
    if config.layout == "names":
        raise DataError(f"The names in {folder} do not tell pairs: {_seen(files)}. {HOW_NAMES}")
    if halves_alike(folder, files):
        return _side_by_side(files, *degraded_side(folder, files))
    raise DataError(
        f"{folder} holds no pairs in a known layout: {_seen(files)}. Known are folders such as input/ and target/, "
        f"names such as 1_rain.png and 1_clean.png, and two images side by side. {_HOW_FOLDERS} {HOW_NAMES} {HOW_SIDES}"
    )


def _sibling_folders(files: Sequence[str]) -> list[_Siblings]:
    """Every two folders beside each other, one named as degraded images are and one as clean ones are."""
    children: defaultdict[str, set[str]] = defaultdict(set)
    for parts in {PurePosixPath(file).parts[:-1] for file in files}:
        for depth, name in enumerate(parts):
            children["".join(f"{part}/" for part in parts[:depth])].add(name)
    return [
        _Siblings(parent, degraded, clean)
        for parent, names in sorted(children.items())
        for degraded in sorted(name for name in names if plain(name) in DEGRADED)
        for clean in sorted(name for name in names if plain(name) in CLEAN)
    ]


def _only(folder: Path, siblings: Sequence[_Siblings]) -> _Siblings:
    if len(siblings) == 1:
        return siblings[0]
    first = siblings[0]
    advice = f"Name the two: degraded: {first.parent}{first.degraded}, clean: {first.parent}{first.clean}."
    if len({(one.degraded, one.clean) for one in siblings}) == 1:
        advice = (
            f"Give the folder of one ({folder / first.parent}), or take all: degraded: {first.degraded}, "
            f"clean: {first.clean}."
        )
    raise DataError(
        f"{folder} holds several folders of pairs: {listing([str(one) for one in siblings], '; ')}. {advice}"
    )


def _named_folders(folder: Path, files: Sequence[str], degraded: str, clean: str) -> list[_Siblings]:
    """The folders of these names, or paths, wherever they are beside each other."""
    degraded, clean = degraded.strip("/"), clean.strip("/")
    folders = sorted({f"{parent.as_posix()}/" for file in files for parent in PurePosixPath(file).parents[:-1]})
    parents = [one.removesuffix(f"{degraded}/") for one in folders if f"/{one}".endswith(f"/{degraded}/")]
    found = [_Siblings(parent, degraded, clean) for parent in parents if f"{parent}{clean}/" in folders]
    if degraded == clean or not found:
        raise ConfigError(
            f"degraded is '{degraded}' and clean is '{clean}', but {folder} has no two such folders beside each other. "
            f"Folders with images: {listing(folders) or 'none'}."
        )
    return found


def _in_folders(folder: Path, files: Sequence[str], siblings: Sequence[_Siblings]) -> Found:
    pairs: list[Pair] = []
    unmatched: list[str] = []
    hows: set[str] = set()
    inside: set[str] = set()
    for one in siblings:
        here, there = f"{one.parent}{one.degraded}/", f"{one.parent}{one.clean}/"
        mask, layer = (f"{here.removesuffix('/').rpartition('/')[0]}/{name}/".lstrip("/") for name in (MASK, LAYER))
        degraded, clean, masks, layers = (
            {file: file.removeprefix(place) for file in files if file.startswith(place)}
            for place in (here, there, mask, layer)
        )
        matched = match_folders(str(folder / one.parent), degraded, clean)
        if matched is None:
            raise DataError(
                f"The names in {here} and {there} of {folder} do not match: saw {listing(list(degraded))} and "
                f"{listing(list(clean))}. Give patterns: degraded: '{here}rain-{{}}', clean: '{there}norain-{{}}'."
            )
        by_name = {stem(name): file for file, name in masks.items()}
        masked = {file: by_name.get(stem(degraded[file])) for file in matched.pairs}
        lacking = [file for file, found in masked.items() if found is None]
        if masks and lacking:
            raise DataError(
                f"{mask} of {folder} holds {len(masks)} images, but no masks of {len(lacking)} degraded images: "
                f"{listing(lacking)}. Add them, or rename {mask} for it not to be read."
            )
        shared = one.parent if len(siblings) > 1 else ""
        pairs += [
            Pair(shared + degraded[file], file, other, mask=masked[file]) for file, other in matched.pairs.items()
        ]
        unmatched += [f"{file}: no clean image in {there}" for file in matched.left(degraded)]
        unmatched += [f"{file}: no degraded image in {here}" for file in matched.left(clean)]
        hows.add(matched.how + (f", with masks in {mask}" if masks else ""))
        inside |= degraded.keys() | clean.keys() | masks.keys() | layers.keys()
    outside = Counter(f"{PurePosixPath(file).parent.as_posix()}/" for file in files if file not in inside)
    unmatched += [
        f"{'the top folder' if where == './' else where}: {count} {'image' if count == 1 else 'images'} in neither side"
        for where, count in sorted(outside.items())
    ]
    first = siblings[0]
    where = str(first) if len(siblings) == 1 else f"{first.degraded}/ and {first.clean}/ in {len(siblings)} folders"
    return Found(pairs, f"{where}, {'; '.join(sorted(hows))}", unmatched)


def _told_apart(files: Sequence[str], matched: Matched) -> Found:
    return Found(
        [Pair(file, file, other) for file, other in matched.pairs.items()],
        f"told apart by file name{_scattered(files)}, {matched.how}",
        [f"{file}: in no pair by its name" for file in matched.left(files)],
    )


def _by_patterns(folder: Path, files: Sequence[str], degraded: str, clean: str) -> Found:
    matched = match_patterns(str(folder), files, degraded, clean)
    if matched is None:
        raise ConfigError(
            f"The patterns degraded: '{degraded}' and clean: '{clean}' make no pairs of the files in {folder}, or one "
            f"file fits both: {_seen(files)}. {{}} is what two files have in common, * what they have not."
        )
    return _told_apart(files, matched)


def _side_by_side(files: Sequence[str], side: Side, reason: str) -> Found:
    how = f"both images side by side in one file{_scattered(files)}, the {side} half degraded ({reason})"
    return Found([Pair(file, file, file, side=side) for file in files], how, [])


def _scattered(files: Sequence[str]) -> str:
    folders = {PurePosixPath(file).parent for file in files}
    return "" if len(folders) == 1 else f" in {len(folders)} folders"


def _seen(files: Sequence[str]) -> str:
    folders = sorted({f"{PurePosixPath(file).parent.as_posix()}/" for file in files} - {"./"})
    inside = f" in folders {listing(folders)}" if folders else ""
    return f"saw {len(files)} {'image' if len(files) == 1 else 'images'}{inside}, such as {listing(list(files))}"
