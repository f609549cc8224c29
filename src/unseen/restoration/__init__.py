"""Pictures and videos restored: files read and written whole, arrays in tiles, many files at once."""

from unseen.restoration.jobs import Job, find_jobs
from unseen.restoration.loading import ImageRestorer, load
from unseen.restoration.picture import Picture, read_picture, write_picture
from unseen.restoration.run import Result, restore_files
from unseen.restoration.tiles import Tiler, reach, restore_image, tiler_for
from unseen.restoration.video import Flicker, flicker, restore_video

__all__ = [
    "Flicker",
    "ImageRestorer",
    "Job",
    "Picture",
    "Result",
    "Tiler",
    "find_jobs",
    "flicker",
    "load",
    "reach",
    "read_picture",
    "restore_files",
    "restore_image",
    "restore_video",
    "tiler_for",
    "write_picture",
]
