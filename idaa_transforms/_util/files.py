"""Write files atomically."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

PARTIAL = ".partial"


def write_whole(file: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write ``content`` to ``file``, whose folder is made, or fail and leave what was there.

    It goes to a file beside it and to the disk, and then takes the old one's place in one step: a full disk or a
    process that is killed meanwhile damages nothing. The permissions are those of any new file, by the umask.

    Args:
        content: text (stored as UTF-8), bytes, or what writes itself to a binary stream that it is given.

    Raises:
        OSError: with the file, the reason, and that nothing was changed.
    """
    if callable(content):
        stream = io.BytesIO()  # in memory: libraries report a full disk in many ways, open files in one
        content(stream)
        data: bytes | memoryview = stream.getbuffer()
    else:
        data = content.encode("utf-8", errors="replace") if isinstance(content, str) else content
    partial = file.with_name(f".{file.name}.{os.getpid()}{PARTIAL}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"{file} could not be written ({reason}); what was there before is as it was") from error


def write_json(file: Path, content: Any) -> None:
    """``content`` as JSON that people can read, by :func:`write_whole`."""
    write_whole(file, json.dumps(content, indent=2) + "\n")


def forget_partial(folder: Path) -> None:
    """Remove what killed processes have left of :func:`write_whole`."""
    for file in folder.glob(f".*{PARTIAL}"):
        file.unlink(missing_ok=True)
