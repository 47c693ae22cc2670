"""What an upload is made of: files, and no more of them than a visitor gives at once.

Gradio holds whatever is no file in memory, three times over, and keeps each file open until all
have come: one upload could take 700 MB, or all the files that a process may have open.
"""

from __future__ import annotations

from typing import Any

from gradio import route_utils
from gradio.route_utils import GradioMultiPartParser, MultiPartException

MOST_FILES = 200


class FilesAlone(GradioMultiPartParser):  # type: ignore[misc]  # Gradio has no types here
    """Gradio's reader of uploads, which takes nothing but files."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Begin to read.

        Args:
            args: As Gradio's own takes them.
            options: Likewise.
        """
        super().__init__(*args, **{**options, "max_files": MOST_FILES})

    def on_headers_finished(self) -> None:
        """Begin a part.

        Raises:
            MultiPartException: It is no file.
        """
        super().on_headers_finished()
        if self._current_part.file is None:
            raise MultiPartException("An upload is files, and nothing else.")


def take_files_alone() -> None:
    """From now on let uploads to pages of this process hold files alone."""
    route_utils.GradioMultiPartParser = FilesAlone
