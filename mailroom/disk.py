"""How much room a disk must have left for more mail to be taken in."""

import shutil
from pathlib import Path

#: The share of a disk that stays free for what was accepted already: its log, its attempts, its ends.
LEAST_FREE = 0.1

#: Of a large disk this many bytes are enough.
ALWAYS_ENOUGH = 5 * 1024**3


def has_room(total: int, free: int, least: float = LEAST_FREE) -> bool:
    """Whether a disk of so many bytes, so many of them free, may take in more."""
    return free >= min(total * least, ALWAYS_ENOUGH)


def lacks_room(folder: Path, least: float = LEAST_FREE) -> str | None:
    """Why nothing more may be taken in to this folder; None when its disk has room, or does not tell."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        # Whether it can be written to is found out by writing.
        return None
    if has_room(usage.total, usage.free, least):
        return None
    return f"the disk of {folder} is nearly full: {usage.free // 1024**2} MiB are free"
