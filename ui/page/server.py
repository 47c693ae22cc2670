"""The page's server: start, health check, and an end that leaves no visitor's files."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType

# Before gradio is imported: no analytics.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Before torch is: threads that spin while they wait starve one another on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import gradio as gr
from gradio.routes import App
from gradio.utils import get_upload_folder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from whylens.core.engine import Engine
from whylens.core.errors import CoreError, WorkStopped
from whylens.core.outputs.guide import measurements
from whylens.core.storage.garbage import permanent_objects
from whylens.ui.interrupts import restore_interrupt
from whylens.ui.page.endpoints import require_mcp
from whylens.ui.page.fair_queue import MOST_IN_ALL, use_fair_queue
from whylens.ui.page.gate import Gate
from whylens.ui.page.janitor import Janitor
from whylens.ui.page.layout import build_page
from whylens.ui.page.light_sessions import LightSessions
from whylens.ui.page.long_events import MOST_EVENTS, SLOW
from whylens.ui.page.session import MEASURED, first_model
from whylens.ui.page.theme import STYLESHEET, page_theme, swatches
from whylens.ui.page.upload_parts import take_files_alone
from whylens.ui.space.zero_gpu import local_engine

log = logging.getLogger("whylens")
HEALTH_PATH = "/health"
SCORES_VARIABLE = "WHYLENS_SCORES"
SECONDS_BETWEEN_ESTIMATES = 1.0  # of the place in line and the time left
MOST_FILE_BYTES = 12 * 2**20  # of an upload; a photo's own bound says what to do
MOST_THREADS = 16  # of the serving process, for events and for files
MOST_SESSIONS = 500  # of which values are kept


def launch(
    page: gr.Blocks,
    *,
    host: str,
    port: int | None,
    block: bool = True,
    mcp: bool = False,
    slow: int = 4,
    greet: Callable[[int], None] | None = None,
) -> str:
    """Serve a page and return its address.

    Args:
        port: None is the first free one from 7860.
        slow: How many slow answers are computed at a time.
        greet: Called with the port once the page is served.
    """
    page.queue(
        # Gradio would tell each who waits of each that is served.
        status_update_rate=SECONDS_BETWEEN_ESTIMATES,
        default_concurrency_limit=MOST_EVENTS,
        max_size=MOST_IN_ALL,
        api_open=False,
    )
    # One more than are computed: whoever waits behind one that hangs must be seen to wait.
    use_fair_queue(page, {SLOW["concurrency_id"]: slow + 1})
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        theme=page_theme(),
        css_paths=STYLESHEET,
        css=swatches(),
        footer_links=["api"],
        share=False,
        show_error=False,  # what is fit to be shown is raised as Gradio's own error
        run_history=False,
        enable_monitoring=False,
        max_file_size=MOST_FILE_BYTES,
        ssr_mode=False,
        pwa=False,
        mcp_server=mcp,
        strict_cors=True,
        max_threads=MOST_THREADS,
        state_session_capacity=MOST_SESSIONS,
        app_kwargs={
            "routes": [health_route()],
            "lifespan": guard(page, local=_is_loopback(host)),
        },
        # Gradio would ask itself for the page and die if it took 3 s, as on a busy machine it may.
        _frontend=False,
        prevent_thread_lock=True,
        quiet=True,
    )
    if greet is not None:
        greet(page.server_port)
    if block:
        log.info("Whylens is at %s (Ctrl-C stops it)", address)
        page.block_thread()
    return str(address)


def guard(
    page: gr.Blocks, *, local: bool
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Return what stands a gate before the server and keeps its files in order, while it runs."""

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        take_files_alone()
        app.state_holder = LightSessions()
        app.state_holder.set_blocks(page)
        keep = {p for block in page.blocks.values() for p in getattr(block, "keep_in_cache", ())}
        janitor = Janitor([Path(get_upload_folder())])
        janitor.start(keep)
        # Outside of all that Gradio adds by itself.
        inner = app.middleware_stack
        assert inner is not None  # noqa: S101 - what starts it has built it
        app.middleware_stack = Gate(inner, janitor, page, local=local)
        yield
        janitor.stop()

    return lifespan


def serve(
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    mcp: bool = False,
    scores: bool = True,
    greet: Callable[[int], None] | None = None,
    engine: Engine | None = None,
) -> None:
    """Build the page from the registry and serve it until stopped.

    Args:
        port: By default GRADIO_SERVER_PORT, or the first free one from 7860.
        scores: Whether every map is tested once it is shown; never where WHYLENS_SCORES is 0.
        greet: As `launch` takes it.
        engine: Which answers; by default what is best on this machine, of all plugins.

    Raises:
        NeedsNotMet: What serving agents needs is not installed.
    """
    if mcp:
        require_mcp()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("whylens").setLevel(logging.INFO)  # libraries tell of each of their steps
    restore_interrupt()
    methods = measurements(MEASURED).methods
    costs = {name: method.forwards for name, method in methods.items()}
    engine = engine or local_engine(costs)

    def end(number: int, frame: FrameType | None) -> None:
        engine.close()  # who waits for an answer holds the server up
        signal.default_int_handler(number, frame)

    # Gradio removes visitors' files on an interrupt, but not on the SIGTERM of a container.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    engine.load_public_models_only()
    judges = scores and os.environ.get(SCORES_VARIABLE) != "0"
    with _own_folder():
        threading.Thread(target=warm_up, args=(engine,), daemon=True, name="warm-up").start()
        with permanent_objects():
            page = build_page(engine, public=not _is_loopback(host), judges=judges)
        try:
            launch(page, host=host, port=port, mcp=mcp, slow=engine.places, greet=greet)
        except KeyboardInterrupt:
            page.close()  # stopped while it was still starting
        finally:
            engine.close()


@contextmanager
def _own_folder() -> Iterator[None]:
    # Whatever lies in it is this server's, and goes with it.
    place = os.environ.get("GRADIO_TEMP_DIR") or None
    if place is not None:
        Path(place).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix="whylens-", dir=place, ignore_cleanup_errors=True
    ) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield


def warm_up(engine: Engine) -> None:
    """Load the network that the page begins with, so that the first visitor need not wait for it.

    What fails here fails again, and is said, where a visitor asks for it.
    """
    try:
        name, _ = first_model(engine)
        engine.forward_seconds(name)
        engine.prepare(name)
    except (CoreError, WorkStopped) as exc:
        log.info("The first network is not loaded yet: %s", exc)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def health_route() -> Route:
    """Return the route of a container's health check: whether the server can still write files."""
    return Route(HEALTH_PATH, _health, methods=["GET"])


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
