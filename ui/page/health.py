"""What a container's health check asks: does the server answer, and can it still write files?"""

from __future__ import annotations

import tempfile

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

PATH = "/health"


def health_route() -> Route:
    """Return the route of the health check, for the application that serves the page."""
    return Route(PATH, _health, methods=["GET"])


def _health(request: Request) -> JSONResponse:  # noqa: ARG001 - the signature is Starlette's
    # Uploads and pictures are files: on a full disk every question would fail.
    try:
        with tempfile.TemporaryFile() as stream:
            stream.write(b"whylens")
            stream.flush()
    except OSError as exc:
        reason = f"No file can be written ({exc.strerror}). Free the disk, or restart."
        return JSONResponse({"status": "failing", "reason": reason}, status_code=503)
    return JSONResponse({"status": "ok"})
