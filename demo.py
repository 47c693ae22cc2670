"""Start the page: `python demo.py`, or a Space's app_file; `whylens demo` does the same."""

from __future__ import annotations

import os

from whylens.core.storage.garbage import permanent_objects
from whylens.ui.ending import run_and_end

with permanent_objects():
    from whylens.ui.page.server import serve

if __name__ == "__main__":
    # A Space and a container are reached from outside; the latter says so in the variable.
    anywhere = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"  # noqa: S104
    run_and_end(lambda: serve(host=os.environ.get("GRADIO_SERVER_NAME") or anywhere))
