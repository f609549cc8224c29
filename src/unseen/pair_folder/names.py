"""Names: a file's name, less what tells the degraded side from the clean one, is the key that a pair shares.

Every way to read the names is tried; the one that pairs most files is taken, and two that pair as many, but
differently, are an error. Pure functions of names; no file is touched.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from unseen.errors import DataError
from unseen.images import EXTENSIONS

DEGRADED = frozenset(
    {
        *("input", "inputs", "degraded", "corrupted", "lq", "low", "real", "data", "synthetic"),
        *("rain", "rainy", "rainyimage", "rainyimages", "raindrop", "snow", "snowy"),
        *("noise", "noisy", "blur", "blurry", "blurred", "haze", "hazy", "fog", "foggy"),
    }
)
"""What folders and parts of file names for degraded images are called: lower case, without `-`, `_` and spaces."""

CLEAN = frozenset(
    {
        *("target", "targets", "gt", "groundtruth", "clean", "reference", "original", "hq", "high", "mean"),
        *("norain", "rainfree", "nosnow", "noiseless", "sharp", "clear"),
    }
)
"""The same for clean images."""

HOW_NAMES = "If names tell them apart, give patterns: degraded: 'rain-{}.png', clean: 'norain-{}.png'."
"""Advice for errors."""

Keys = dict[str, str]
"""The key of each file."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read names: the keys of what would be the degraded files, and of what would be the clean ones."""

    how: str
    degraded: Keys
    clean: Keys


@dataclass(frozen=True, slots=True)
class Matched:
    """The clean file of each degraded file, and how it was found."""

    how: str
    pairs: dict[str, str]

    def left(self, files: Iterable[str]) -> list[str]:
        """The files in no pair, sorted."""
        return sorted(set(files) - self.pairs.keys() - set(self.pairs.values()))


def stem(name: str) -> str:
    """A relative path without the suffix of its file."""
    return name.removesuffix(PurePosixPath(name).suffix)


def plain(name: str) -> str:
    """As the names in `DEGRADED` and `CLEAN` are written."""
    return re.sub(r"[-_ ]", "", name).casefold()


def listing(items: Sequence[str], separator: str = ", ") -> str:
    """The first few, and how many more."""
    more = f"{separator}and {len(items) - 3} more" if len(items) > 3 else ""
    return separator.join(items[:3]) + more


def match_folders(where: str, degraded: dict[str, str], clean: dict[str, str]) -> Matched | None:
    """Pairs of files in two folders; the values are their paths within them. None where no names match.

    Raises `DataError` for names that can be read in two ways, or two clean images of one name. `where` names the
    folder in errors.
    """
    stems = {file: stem(name) for file, name in degraded.items()}
    others = {file: stem(name) for file, name in clean.items()}
    readings = [
        Reading("matched by name", stems, others),
        *_by_words(degraded, clean),
        *(Reading(f"matched by name less '{word}'", keys, others) for word, keys in _words(degraded, DEGRADED).items()),
        *(Reading(f"matched by name less '{word}'", stems, keys) for word, keys in _words(clean, CLEAN).items()),
        _by_affixes(degraded, clean),
    ]
    return _best(where, readings)


def match_files(where: str, files: Iterable[str]) -> Matched | None:
    """Pairs within one folder: by known words, or by clean names that all others continue. Raises `DataError`."""
    names = {file: file for file in files}
    readings = _by_words(names, names)
    for whole in (True, False):
        some = [reading for reading in readings if _match(reading, whole)]
        if len(some) > 1:
            raise DataError(
                f"The names in {where} can be read in several ways: {listing([one.how for one in some], '; ')}. "
                f"{HOW_NAMES}"
            )
        if some:
            break
    matched = _best(where, some) or _continued(names)
    both = sorted(matched.pairs.keys() & set(matched.pairs.values())) if matched is not None else []
    if both:
        raise DataError(f"In {where}, {listing(both)} could be degraded as well as clean images. {HOW_NAMES}")
    return matched


def match_patterns(where: str, files: Sequence[str], degraded: str, clean: str) -> Matched | None:
    """Pairs by two patterns: `{}` is the key, `*` anything within a folder. None where they fit no pair, or where a
    file fits both. Raises `DataError` for two clean images of one key."""

    def keys(pattern: str) -> Keys:
        suffixed = pattern.lower().endswith(EXTENSIONS)
        escaped = re.escape(pattern).replace(r"\{\}", "(.+)")
        expression = re.compile(re.sub(r"(\\\*)+", "[^/]*", escaped), re.DOTALL)
        fits = ((name, expression.fullmatch(name if suffixed else stem(name))) for name in files)
        return {name: fit[1] for name, fit in fits if fit is not None}

    reading = Reading(f"{degraded} is degraded and {clean} is clean", keys(degraded), keys(clean))
    pairs = _match(reading, whole=True)
    if not pairs or pairs.keys() & set(pairs.values()):
        return None
    _check_one_clean(where, reading, pairs)
    return Matched(reading.how, pairs)


def _tokens(name: str) -> list[str]:
    """Runs of letters, of digits, and of what lies between."""
    return re.findall(r"[^\W\d_]+|\d+|[\W_]+", name)


def _without(tokens: Sequence[str], index: int) -> str:
    """The name without a word, and without one of the separators around it."""
    before, after = "".join(tokens[:index]), "".join(tokens[index + 1 :])
    if not before or before[-1] in "/-_. ":
        after = after.lstrip("-_. ")
    return before + after if after else before.rstrip("-_. ")


def _words(names: dict[str, str], known: frozenset[str]) -> dict[str, Keys]:
    """By word, in lower case, sorted: the files whose name has it, with their keys."""
    found: defaultdict[str, Keys] = defaultdict(dict)
    for file, name in names.items():
        tokens = _tokens(stem(name))
        start = max((index + 1 for index, token in enumerate(tokens) if "/" in token), default=0)
        for index in range(start, len(tokens)):
            word = tokens[index].casefold()
            if word in known:
                found[word][file] = _without(tokens, index)
    return dict(sorted(found.items()))


def _by_words(degraded: dict[str, str], clean: dict[str, str]) -> list[Reading]:
    """A reading for every word for degraded images that occurs, with every word for clean ones."""
    cleans = _words(clean, CLEAN).items()
    return [
        Reading(f"'{word}' in the name is degraded and '{other}' is clean", keys, others)
        for word, keys in _words(degraded, DEGRADED).items()
        for other, others in cleans
    ]


def _by_affixes(degraded: dict[str, str], clean: dict[str, str]) -> Reading:
    """Each side less the words that all its names begin and end with, up to the first number."""

    def stripped(names: dict[str, str]) -> tuple[str, Keys]:
        stems = {file: stem(name).rpartition("/") for file, name in names.items()}
        lasts = [last for _, _, last in stems.values()]
        before, after = _common(lasts), _common([last[::-1] for last in lasts])[::-1]
        keys = {
            file: parent + slash + (last[len(before) : len(last) - len(after)] or last)
            for file, (parent, slash, last) in stems.items()
        }
        return f"{before}{{}}{after}", keys

    (pattern, keys), (other, others) = stripped(degraded), stripped(clean)
    return Reading(f"matched by name, {pattern} to {other}", keys, others)


def _common(names: Sequence[str]) -> str:
    """The whole words that all names begin with, before any number."""
    shared = _tokens(names[0])
    shared = shared[: next((n for n, token in enumerate(shared) if token.isdigit()), len(shared))]
    for name in names[1:]:
        tokens = _tokens(name)
        agree = (one == other for one, other in zip(shared, tokens, strict=False))
        shared = shared[: next((n for n, same in enumerate(agree) if not same), min(len(shared), len(tokens)))]
    return "".join(shared)


def _best(where: str, readings: Sequence[Reading]) -> Matched | None:
    """The reading that pairs most files. Only where none pairs any, keys may be continued. Raises `DataError`."""
    for whole in (True, False):
        matched = [(reading, _match(reading, whole)) for reading in readings]
        most = max((len(pairs) for _, pairs in matched), default=0)
        if most == 0:
            continue
        (first, pairs), *others = [(reading, pairs) for reading, pairs in matched if len(pairs) == most]
        for other, others_pairs in others:
            if others_pairs != pairs:
                raise DataError(
                    f"The names in {where} can be read in two ways, with {most} pairs each: {first.how}; or "
                    f"{other.how}. {HOW_NAMES}"
                )
        _check_one_clean(where, first, pairs)
        return Matched(first.how if whole else f"{first.how}, degraded names continuing that of a clean image", pairs)
    return None


def _match(reading: Reading, whole: bool) -> dict[str, str]:
    """The clean file of each degraded file: of the same key or, unless `whole`, of the longest key that it continues.
    Does not depend on the order of files. A file is never its own pair."""
    by_key = {key: file for file, key in sorted(reading.clean.items(), reverse=True)}
    pairs: dict[str, str] = {}
    for file, key in sorted(reading.degraded.items()):
        tried = [key] if whole else _beginnings(key)
        other = next((by_key[one] for one in tried if one in by_key), file)
        if other != file:
            pairs[file] = other
    return pairs


def _beginnings(key: str) -> Iterator[str]:
    """What a key may continue, the longest first: cut before a separator, or between a digit and a letter."""
    for cut in range(len(key) - 1, 0, -1):
        before, after = key[cut - 1], key[cut]
        if after == "/":
            return
        if (before.isalnum() and not after.isalnum()) or (before.isdigit() and after.isalpha()):
            yield key[:cut]


def _check_one_clean(where: str, reading: Reading, pairs: dict[str, str]) -> None:
    """Raises `DataError` where two clean files have the key of one pair."""
    used = {reading.clean[other] for other in pairs.values()}
    files: defaultdict[str, list[str]] = defaultdict(list)
    for file, key in sorted(reading.clean.items()):
        if key in used:
            files[key].append(file)
    double = [" and ".join(some) for some in files.values() if len(some) > 1]
    if double:
        raise DataError(
            f"{where} holds several clean images of one name: {listing(double, '; ')}. Remove all but one, or give "
            "patterns with the suffix: degraded: 'input/{}.png', clean: 'target/{}.png'."
        )


def _continued(names: dict[str, str]) -> Matched | None:
    """Degraded names that continue a clean one (1_a, 1_b; 1), without known words: only if that accounts for every
    file, and no file would be degraded and clean at once."""
    stems = {file: stem(name) for file, name in names.items()}
    if len(set(stems.values())) < len(stems):
        return None
    pairs = _match(Reading("", stems, stems), whole=False)
    cleans = set(pairs.values())
    if not pairs or pairs.keys() & cleans or pairs.keys() | cleans != names.keys():
        return None
    return Matched("degraded names continuing that of a clean image", pairs)
