"""Many pictures restored: the next ones are read, and the last ones written, while one is computed."""

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unseen.errors import DataError, UnseenError
from unseen.images import PEAK, image_size
from unseen.networks.abstention import CHANGED
from unseen.restoration.jobs import Job
from unseen.restoration.picture import FORMATS, Picture, is_full, read_picture, replaced, write_picture
from unseen.restoration.tiles import Tiler, as_floats, out_of_memory

IN_FLIGHT = 50_000_000
"""Pixels of pictures that are read, computed and not yet written, in all: what bounds the memory of a run."""

AHEAD = 16
"""Pictures that are read ahead, at most."""

AMPLIFIED = 4
"""By how much differences are amplified before they are shown."""

Status = Literal["restored", "skipped", "failed", "left"]


@dataclass
class Result:
    """What became of a job. `message` is an error's sentence, `notes` say what was not kept; sizes are in pixels.
    `taken` is how much was taken of what was restored: 0 where a picture is taken for clean, and left as it is."""

    job: Job
    status: Status = "left"
    message: str | None = None
    notes: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0
    taken: float = 1.0


def restore_files(
    jobs: list[Job],
    tiler: Tiler,
    done: Callable[[Result], None] = lambda result: None,
    *,
    overlap: bool = True,
) -> list[Result]:
    """Restore images, in their order. `done` is told of each when it is written, or has failed.

    A bad file does not stop the others; a full disk does, and what comes after it is "left". So does Ctrl-C: what is
    computed is still written, then KeyboardInterrupt goes on, and `done` has been told of all that was written.
    `overlap` reads and writes in threads of their own; without it, one after the other.
    """
    results = [Result(job) for job in jobs]
    waiting = deque(results)
    ahead: deque[tuple[Result, int, Future[Picture]]] = deque()
    behind: deque[tuple[Result, int, Future[list[str]]]] = deque()
    in_flight, stop = 0, False

    def finish(result: Result, error: BaseException | None) -> None:
        nonlocal stop
        if error is None:
            result.status = "restored"
        elif isinstance(error, UnseenError):
            result.status, result.message = "failed", str(error)
            stop = stop or is_full(error)
        elif out_of_memory(error):
            result.status = "failed"
            result.message = f"There is not enough memory for {result.job.source}. Scale it down, or cut it up."
        else:
            raise error
        done(result)

    def written(at_most: int = 0) -> None:
        """Take note of what is written; wait until no more than so many are not."""
        nonlocal in_flight
        while behind and (len(behind) > at_most or behind[0][2].done()):
            result, size, future = behind.popleft()
            error = future.exception()
            if error is None:
                result.notes += future.result()
            in_flight -= size
            finish(result, error)

    with _threads(overlap) as (reader, writer):
        try:
            while (waiting or ahead) and not stop:
                while waiting and len(ahead) < (AHEAD if overlap else 1):
                    size = _pixels(waiting[0].job)
                    if in_flight and in_flight + size > IN_FLIGHT:
                        if ahead or not behind:
                            break
                        written(len(behind) - 1)
                        continue
                    result = waiting.popleft()
                    in_flight += size
                    ahead.append((result, size, reader.submit(read_picture, result.job.source)))
                batch: list[tuple[Result, int, Picture]] = []
                while ahead:
                    result, size, future = ahead[0]
                    error = future.exception()
                    if error is None and batch and not _fits(batch, future.result(), tiler):
                        break
                    ahead.popleft()
                    if error is None:
                        picture = future.result()
                        result.notes += picture.notes
                        batch.append((result, size, picture))
                        if not tiler.batch_pixels:
                            break
                    else:
                        in_flight -= size
                        finish(result, error)
                        if not batch:
                            break
                if not batch:
                    continue
                try:
                    restored = _restore([picture for _, _, picture in batch], tiler)
                except Exception as error:
                    for result, size, _ in batch:
                        in_flight -= size
                        finish(result, error)
                    continue
                taken = tiler.taken.tolist()
                for (result, size, picture), pixels, share in zip(batch, restored, taken, strict=True):
                    result.height, result.width = picture.upright(pixels).shape[:2]
                    result.taken = share
                    alone = share == 0 and _keeps_its_format(result.job, picture)
                    if alone:
                        result.notes.clear()  # nothing is lost on the way
                    behind.append((result, size, writer.submit(_write, result.job, picture, pixels, alone)))
                batch = []
                written(AHEAD if overlap else 0)
        finally:
            for _, _, reading in ahead:
                reading.cancel()
            written()
    return results


def _pixels(job: Job) -> int:
    try:
        height, width = image_size(job.source)
    except UnseenError:
        return 0  # reading says why
    return height * width


def _fits(batch: list[tuple[Result, int, Picture]], picture: Picture, tiler: Tiler) -> bool:
    """Whether a picture is restored in the same call: as large, of the same kind, and the sum still small."""
    first = batch[0][2]
    pixels, own = picture.upright(picture.pixels), first.upright(first.pixels)
    size = pixels.shape[0] * pixels.shape[1]
    return pixels.shape == own.shape and pixels.dtype == own.dtype and (len(batch) + 1) * size <= tiler.batch_pixels


def _restore(pictures: list[Picture], tiler: Tiler) -> list[NDArray[Any]]:
    """The restored pixels of pictures of one upright shape, as they are stored."""
    if len(pictures) > 1:
        shown = np.stack([_stacked(picture.upright(picture.pixels)) for picture in pictures])
        restored = []
        for picture, values in zip(pictures, tiler.restore(shown), strict=True):
            pixels = np.empty_like(picture.pixels)
            _stacked(picture.upright(pixels))[...] = values
            restored.append(pixels)
        return restored
    return [restore_picture(pictures[0], tiler)]


def restore_picture(picture: Picture, tiler: Tiler) -> NDArray[Any]:
    """The restored pixels of a picture, as they are stored. It is restored upright: rain falls."""
    pixels = np.empty_like(picture.pixels)
    tiler.restore(_stacked(picture.upright(picture.pixels))[None], _stacked(picture.upright(pixels))[None])
    return pixels


def _stacked(pixels: NDArray[Any]) -> NDArray[Any]:
    """A view (h, w, c): grey has one channel."""
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _keeps_its_format(job: Job, picture: Picture) -> bool:
    """Whether the target is a file of the same kind as the source, as its name has it and as it is."""
    return job.target.suffix == job.source.suffix and FORMATS.get(job.source.suffix.lower()) == picture.format


def _write(job: Job, picture: Picture, restored: NDArray[Any], alone: bool) -> list[str]:
    """Write what was restored, last of all: its presence says that all of the job is done. `alone`: the source itself,
    byte by byte."""
    before, after = picture.upright(picture.pixels), picture.upright(restored)
    if job.mask is not None and job.mask not in job.kept:
        write_picture(job.mask, Picture(changed(before, after)))
    if job.difference is not None and job.difference not in job.kept:
        write_picture(job.difference, Picture(removed(before, after)))
    if job.target in job.kept:
        return []
    if alone:
        with replaced(job.target) as temporary:
            shutil.copyfile(job.source, temporary)
        return []
    # Let go of the input before the output is coded.
    picture.pixels = restored
    lost = write_picture(job.target, picture)
    named = FORMATS.get(job.source.suffix.lower())
    if named not in (None, picture.format) and job.target.suffix == job.source.suffix:
        lost.append(f"it is {picture.format}, and becomes what its name says, {named}")
    return lost


def changed(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w): white where a channel changed by more than 0.02, black elsewhere."""
    shown = np.zeros(before.shape[:2], np.uint8)
    for rows in _bands(before):
        apart = np.abs(as_floats(after[rows]) - as_floats(before[rows])) > CHANGED
        shown[rows][apart if apart.ndim == 2 else apart.any(-1)] = PEAK
    return shown


def removed(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.uint8]:
    """What was taken out, `before - after`, four times amplified, around grey: dark is what was put in."""
    shown = np.zeros(before.shape, np.uint8)
    for rows in _bands(before):
        values = 0.5 + AMPLIFIED * (as_floats(before[rows]) - as_floats(after[rows]))
        shown[rows] = np.rint(np.clip(values, 0, 1) * PEAK)
    return shown


def _bands(pixels: NDArray[Any], rows: int = 128) -> Iterator[slice]:
    for top in range(0, len(pixels), rows):
        yield slice(top, top + rows)


class _Now(Executor):
    """Does at once what it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def _threads(overlap: bool) -> Iterator[tuple[Executor, Executor]]:
    if not overlap:
        yield _Now(), _Now()
        return
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        yield reader, writer


@dataclass
class Rate:
    """How fast a run is: images and megapixels a second, since it was made."""

    began: float = field(default_factory=time.monotonic)
    images: int = 0
    pixels: int = 0

    def add(self, width: int, height: int, images: int = 1) -> None:
        self.images += images
        self.pixels += images * width * height

    @property
    def seconds(self) -> float:
        return max(1e-9, time.monotonic() - self.began)

    @property
    def megapixels(self) -> float:
        return self.pixels / 1e6


def failed(job: Job, error: Exception) -> Result:
    """The result of a job that an error ended."""
    if not isinstance(error, UnseenError) and out_of_memory(error):
        error = DataError(f"There is not enough memory for {job.source}.")
    if not isinstance(error, UnseenError):
        raise error
    return Result(job, "failed", str(error))
