"""Uploads while they are read: the files that are open, and the progress that is known."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from starlette.datastructures import Headers

from whylens.ui.page.upload_parts import MOST_PROGRESSES, FilesAlone, Progresses


def test_an_upload_that_stalls_holds_one_file_open(tmp_path):
    bodies = [f"file {number}".encode() for number in range(50)]
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    whole = b"".join(head + body + b"\r\n" for body in bodies)
    open_counts = []

    async def stream():
        yield whole + head + b"the last "
        open_counts.append(sum(not file.closed for file in parser._files_to_close_on_error))
        yield b"file\r\n--x--\r\n"

    headers = Headers({"content-type": "multipart/form-data; boundary=x"})
    parser = FilesAlone(headers, stream(), upload_dir=tmp_path, max_file_size=100)
    form = asyncio.run(parser.parse())
    assert open_counts == [1]
    contents = [Path(file.file.name).read_bytes() for file in form.getlist("files")]
    for file in form.getlist("files"):
        file.file.close()
    assert contents[:50] == bodies
    assert len(contents) == 51


def test_of_uploads_that_nobody_asks_about_few_are_known():
    progresses = Progresses()

    async def ask(name: str) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(progresses.is_tracked(name), 0)

    for number in range(2 * MOST_PROGRESSES):
        progresses.append(f"{number}", "a.png", b"x")
        asyncio.run(ask(f"asked {number}"))
    assert len(progresses._statuses) <= MOST_PROGRESSES
    assert len(progresses._signals) <= MOST_PROGRESSES
    assert progresses.pop(f"{2 * MOST_PROGRESSES - 1}").chunk_size == 1
