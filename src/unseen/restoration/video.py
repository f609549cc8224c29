"""Videos restored frame by frame: sound and subtitles copied, times kept. Needs the extra `video` (PyAV)."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.errors import ConfigError, ImageError
from unseen.restoration.picture import replaced
from unseen.restoration.tiles import Clip, Tiler, as_floats

QUALITY = 18
"""The constant rate factor of H.264: 18 is said to be visually lossless, 0 is lossless."""

_SCALING = 0x4 | 0x2000 | 0x4000 | 0x40000
"""The scaler's flags: bicubic, all colours read and made at full width, exact rounding. Others darken by a level."""

_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""The matrices of H.273 (table 4), as the scaler counts them. Others are left to its default, in both directions."""


@dataclass
class Flicker:
    """How much pixels change from a frame to the next, of 1: before and after, and what was `added`.

    `before` is the mean of |d before| over all pixels and pairs of neighbouring frames, d their difference; `after`
    likewise. `added` is the mean of max(0, |d after| - |d before|): what changes more than it did. On a scene without
    motion all of it is flicker.
    """

    before: float = 0.0
    after: float = 0.0
    added: float = 0.0
    pairs: int = 0
    _last: tuple[NDArray[np.float32], NDArray[np.float32]] | None = field(default=None, repr=False)

    def add(self, before: NDArray[Any], after: NDArray[Any]) -> None:
        """The next frame, (h, w, 3), and its restored one. Any: integers, or floating point in [0, 1]."""
        frames = as_floats(before), as_floats(after)
        if self._last is not None:
            was, became = (np.abs(frame - last) for frame, last in zip(frames, self._last, strict=True))
            news = float(was.mean()), float(became.mean()), float(np.maximum(became - was, 0).mean())
            self.pairs += 1
            share = 1 / self.pairs
            self.before += share * (news[0] - self.before)
            self.after += share * (news[1] - self.after)
            self.added += share * (news[2] - self.added)
        self._last = frames


def flicker(before: NDArray[Any], after: NDArray[Any]) -> Flicker:
    """The flicker of two clips, (t, h, w, c). Any: integers, or floating point in [0, 1]."""
    found = Flicker()
    for frames in zip(before, after, strict=True):
        found.add(*frames)
    return found


@dataclass(frozen=True)
class Restored:
    """A restored video: frames, their upright size in pixels, `flicker` on every fourth row and column, and `notes` on
    what was not kept, in words."""

    frames: int
    width: int
    height: int
    flicker: Flicker
    notes: list[str]


def restore_video(
    source: Path, target: Path, tiler: Tiler, progress: Callable[[int, int], None] = lambda done, total: None
) -> Restored:
    """Restore every frame of `source` to `target`, whole or not at all, as H.264.

    Times of frames, size, pixel format (where H.264 has it), colour tags, sound and subtitles are kept. A video that is
    shown rotated is written as it is shown. `progress` is told frames done, and how many there are (0: not known).

    ConfigError without PyAV; ImageError where the video is damaged, cut off, or cannot be written.
    """
    try:
        import av
        from av.codec.codec import UnknownCodecError
    except ImportError as error:
        raise ConfigError(f"{source} is a video: install the extra `video`, pip install 'unseen[video]'.") from error
    if source.is_file() and source.stat().st_size == 0:
        raise ImageError(f"Cannot read {source}: the file is empty (0 bytes).")
    found, clip = Flicker(), Clip()
    count = left = 0
    try:
        with replaced(target) as temporary:
            try:
                first, notes = _first_frame(source)
                turns = round(first.rotation / 90) % 4
                with _reading(source) as reader, av.open(str(temporary), "w") as writer:
                    video = _picture_stream(reader)
                    video.thread_type = "AUTO"
                    writer.metadata.update(reader.metadata)
                    if hasattr(writer, "set_chapters"):  # PyAV 14 of the first hour has it not
                        writer.set_chapters(reader.chapters())
                    encoder = _encoder(writer, video, first, turns)
                    copies, lost = _copies(reader, writer, video)
                    notes += lost
                    deep = _bits(first) > 8
                    total, ended, coded = _length(reader, video), 0.0, 0
                    for packet in reader.demux(video, *(stream for stream, _ in copies.values())):
                        if packet.dts is not None and packet.time_base is not None:
                            ended = max(ended, float((packet.dts + (packet.duration or 0)) * packet.time_base))
                        if packet.stream.index != video.index:
                            if packet.dts is not None:
                                packet.stream = copies[packet.stream.index][1]
                                writer.mux(packet)
                            continue
                        coded += packet.dts is not None
                        frames: list[Any] = packet.decode()
                        for frame in frames:
                            if (frame.width, frame.height) != (first.width, first.height):
                                raise ImageError(
                                    f"Cannot restore {source}: after {count} frames its size changes from "
                                    f"{first.width} x {first.height} to {frame.width} x {frame.height}. Cut it there."
                                )
                            made = _restored(frame, encoder.pix_fmt, turns, deep, tiler, found, clip)
                            writer.mux(encoder.encode(made))
                            count += 1
                            left += not tiler.taken.any()
                            progress(count, max(total, count))
                    writer.mux(encoder.encode(None))
                    _refuse_cut(source, reader, video, count, coded, ended)
                    progress(count, count)
            except av.FFmpegError as error:
                raise _told(error, source, target, count) from error
            except (UnicodeError, UnknownCodecError) as error:
                raise ImageError(f"Cannot read {source}: {error}. Convert it to another format first.") from error
    except ImageError as error:
        if isinstance(error.__cause__, av.FFmpegError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
            raise error from OSError(error.__cause__.errno, "No space left on device")
        raise
    if left:
        notes.append(f"{left} of its {count} frames are taken for clean, and left as they are (--always restores them)")
    return Restored(count, encoder.width, encoder.height, found, notes)


def _first_frame(source: Path) -> tuple[Any, list[str]]:
    """The first frame, which alone tells how the video is shown. Any: PyAV's types are there only with the extra."""
    with _reading(source) as reader:
        video = _picture_stream(reader)
        for frame in reader.decode(video):
            notes = ["its pictures are written upright, without the tag that turned them"] if frame.rotation else []
            if frame.interlaced_frame:
                notes.append("it is interlaced: deinterlace it first, for a better result")
            if _has_alpha(frame):
                notes.append("its transparency is left out: H.264 holds none")
            return frame, notes
    raise ImageError(f"Cannot read {source}: it holds no frame that can be decoded.")


def _reading(source: Path) -> Any:
    """The open file; what is no UTF-8 in its metadata is replaced."""
    import av

    return av.open(str(source), metadata_errors="replace")


def _picture_stream(reader: Any) -> Any:
    """The first video stream that is no cover picture."""
    from av.stream import Disposition

    for stream in reader.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise ImageError(f"Cannot read {reader.name}: it holds no video.")


def _encoder(writer: Any, video: Any, first: Any, turns: int) -> Any:
    """The output's H.264 stream, with the size, times and colours of the input."""
    import av

    stream = writer.add_stream(
        "libx264",
        rate=video.average_rate or video.guessed_rate or Fraction(25),
        options={"crf": str(QUALITY), "preset": "medium"},
    )
    width, height = (first.height, first.width) if turns % 2 else (first.width, first.height)
    known = {each.name for each in av.Codec("libx264", "w").video_formats or []}
    wanted = first.format.name
    if wanted not in known or wanted.startswith("gray"):  # grey is written at full range, and read at the narrow one
        wanted = "yuv420p10le" if _bits(first) > 8 and "yuv420p10le" in known else "yuv420p"
    if width % 2 or height % 2:  # the others halve colours
        wanted = "yuv444p10le" if "10le" in wanted else "yuvj444p" if wanted.startswith("yuvj") else "yuv444p"
    context, own = stream.codec_context, video.codec_context
    stream.width, stream.height, stream.pix_fmt = width, height, wanted
    context.time_base = video.time_base
    for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
        setattr(context, name, getattr(own, name))
    ratio = own.sample_aspect_ratio
    if ratio:
        context.sample_aspect_ratio = 1 / ratio if turns % 2 else ratio
    stream.metadata.update({name: value for name, value in video.metadata.items() if name in ("language", "title")})
    return stream


def _copies(reader: Any, writer: Any, video: Any) -> tuple[dict[int, tuple[Any, Any]], list[str]]:
    """Streams that are copied as they are, by number, and what cannot be."""
    copies, lost = {}, []
    for stream in reader.streams:
        if stream.index == video.index:
            continue
        if stream.type not in ("audio", "subtitle"):
            lost.append(f"its stream {stream.index} ({stream.type}) is left out")
            continue
        try:
            copy = writer.add_stream_from_template(stream)
        except ValueError:
            lost.append(f"its stream {stream.index} ({stream.type}) is left out: {writer.format.name} cannot hold it")
            continue
        copy.metadata.update(stream.metadata)
        copies[stream.index] = stream, copy
    return copies, lost


def _restored(frame: Any, pixel_format: str, turns: int, deep: bool, tiler: Tiler, found: Flicker, clip: Clip) -> Any:
    import av

    rgb = "rgb48le" if deep else "rgb24"
    pixels = np.rot90(frame.to_ndarray(format=rgb, interpolation=_SCALING), turns)
    restored = tiler.restore(pixels[None], clip=clip)[0]
    found.add(pixels[::4, ::4], restored[::4, ::4])
    made = av.VideoFrame.from_ndarray(np.ascontiguousarray(restored), format=rgb).reformat(
        format=pixel_format,
        interpolation=_SCALING,
        dst_colorspace=_MATRICES.get(frame.colorspace),
        dst_color_range=frame.color_range or None,
    )
    made.pts, made.time_base = frame.dts if frame.pts is None else frame.pts, frame.time_base
    return made


def _has_alpha(frame: Any) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _bits(frame: Any) -> int:
    return max(component.bits for component in frame.format.components)


def _length(reader: Any, video: Any) -> int:
    """How many frames there are, or are likely to be; 0 where nothing tells."""
    if video.frames:
        return video.frames
    return round(reader.duration / 1e6 * float(video.average_rate)) if reader.duration and video.average_rate else 0


def _refuse_cut(source: Path, reader: Any, video: Any, count: int, coded: int, ended: float) -> None:
    """A file that ends early is read without an error: what its header promises is counted. These are the `coded`
    pictures: of a clip that was cut without coding it anew, not all are shown."""
    if not count:
        raise ImageError(f"Cannot read {source}: it holds no frame that can be decoded.")
    if video.frames and coded < 0.98 * video.frames - 1:
        raise ImageError(
            f"{source} is cut off or damaged: {coded} frames could be read of the {video.frames} that its header tells "
            "of. Copy it again from where it came."
        )
    began, length = (reader.start_time or 0) / 1e6, (reader.duration or 0) / 1e6
    if ended - began < 0.98 * length - 1:
        raise ImageError(
            f"{source} is cut off: it ends after {ended - began:.1f} s of the {length:.1f} s that its header tells of. "
            "Copy it again from where it came."
        )


def _told(error: Any, source: Path, target: Path, count: int) -> ImageError:
    """One sentence for what the library says."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ImageError(f"Cannot write {target}: the disk (or the quota on it) is full. Free some space.")
    if isinstance(error, FileNotFoundError):
        return ImageError(f"Cannot read {source}: no such file.")
    where = f" after {count} frames" if count else ""
    return ImageError(
        f"Cannot read {source}: damaged or cut off{where}, or no video ({error.strerror or error}). "
        "Copy it again from where it came."
    )
