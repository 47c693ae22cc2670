"""What an upload is made of: files, and no more of them than a visitor gives at once.

Gradio holds whatever is no file in memory, three times over, and keeps each file open until all
have come: one upload could take 700 MB, or all the files that a process may have open. It keeps
how far an upload is until somebody asks, under whatever name the upload gives itself.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from gradio import route_utils, routes
from gradio.route_utils import FileUploadProgress, GradioMultiPartParser, MultiPartException

MOST_FILES = 200
# Called with each file of the upload that is being read.
ON_FILE: ContextVar[Callable[[], None]] = ContextVar("on file", default=lambda: None)
MOST_PROGRESSES = 500  # of uploads, for those that show them


class FilesAlone(GradioMultiPartParser):  # type: ignore[misc]  # Gradio has no types here
    """Gradio's reader of uploads, which takes nothing but files."""

    stream: AsyncIterator[bytes]

    def __init__(self, *args: Any, **options: Any) -> None:
        """Begin to read.

        Args:
            args: As Gradio's own takes them.
            options: Likewise.
        """
        super().__init__(*args, **{**options, "max_files": MOST_FILES})
        self.stream = self._closing_whole_files(self.stream)

    async def _closing_whole_files(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield an upload's chunks; whoever waits for the next holds open what is not whole."""
        async for chunk in stream:
            yield chunk
            for file in self._files_to_close_on_error:
                if file is not getattr(self._current_part.file, "file", None):
                    file.close()

    def on_part_begin(self) -> None:
        """Begin a part, before anything is opened for it.

        Raises:
            MultiPartException: Whoever counts files refuses one more.
        """
        try:
            ON_FILE.get()()
        except Exception as refusal:
            raise MultiPartException(str(refusal)) from refusal
        super().on_part_begin()

    def on_headers_finished(self) -> None:
        """Begin a part.

        Raises:
            MultiPartException: It is no file.
        """
        super().on_headers_finished()
        if self._current_part.file is None:
            raise MultiPartException("An upload is files, and nothing else.")

    async def parse(self) -> Any:
        """Return what was uploaded.

        Raises:
            MultiPartException: It is no upload, or too much.
        """
        try:
            return await super().parse()
        except (ValueError, LookupError) as exc:  # as of a boundary that is too long
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            raise MultiPartException("This upload cannot be read.") from exc


class Progresses(FileUploadProgress):  # type: ignore[misc]  # Gradio has no types here
    """How far uploads are, of the latest alone: whoever shows it asks while the upload runs."""

    def __init__(self) -> None:
        """Know of none."""
        super().__init__()
        self._statuses: OrderedDict[str, Any] = OrderedDict()
        self._signals = _Signals()

    def track(self, upload_id: str) -> None:
        """Begin to tell of an upload."""
        super().track(upload_id)
        while len(self._statuses) > MOST_PROGRESSES:
            self._statuses.popitem(last=False)


class _Signals(OrderedDict[str, asyncio.Event]):
    def __missing__(self, upload_id: str) -> asyncio.Event:
        while len(self) >= MOST_PROGRESSES:
            self.popitem(last=False)
        return self.setdefault(upload_id, asyncio.Event())


def take_files_alone() -> None:
    """From now on let uploads to pages of this process hold files alone."""
    route_utils.GradioMultiPartParser = FilesAlone
    routes.file_upload_statuses = Progresses()
