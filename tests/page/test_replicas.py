"""Two processes behind nginx, with the configuration of docs/replicas.md."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from whylens.ui.space.local_run import free_port

ROOT = Path(__file__).resolve().parents[2]
SITE = (ROOT / "docs" / "replicas.conf").read_text()
WHOLE = """
pid nginx.pid;
error_log stderr;
daemon off;
master_process off;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    {site}
}}
"""
pytestmark = pytest.mark.slow


@contextlib.contextmanager
def process(command: list[str], address: str, log: Path, **settings) -> Iterator[subprocess.Popen]:
    """Yield a process that answers at an address; it is killed at the end."""
    # Into a file: whoever writes to a pipe that nobody empties stands still.
    with log.open("wb") as stream:
        child = subprocess.Popen(command, stdout=stream, stderr=stream, **settings)
    try:
        limit = time.monotonic() + 300
        while True:
            try:
                httpx.get(address, timeout=30)
                break
            except httpx.TransportError:
                assert child.poll() is None, log.read_text()
                assert time.monotonic() < limit, log.read_text()
        yield child
    finally:
        child.kill()
        child.wait()


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """Two pages on loopback: their ports, and the first one's process."""
    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as stack:
        for port in ports:
            place = tmp_path_factory.mktemp("replica")
            variables = {
                **os.environ,
                "GRADIO_SERVER_PORT": str(port),
                "GRADIO_TEMP_DIR": str(place / "files"),
                "HF_HUB_OFFLINE": "1",
                "WHYLENS_TRAINING": "0",
            }
            command = [sys.executable, "demo.py"]
            address = f"http://127.0.0.1:{port}/"
            child = stack.enter_context(
                process(command, address, place / "log.txt", cwd=ROOT, env=variables)
            )
            if port == ports[0]:
                first = child
        yield ports, first


def nginx_program() -> str:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    return program


@contextlib.contextmanager
def nginx(ports: list[int], place: Path, *, sticky: bool = True) -> Iterator[str]:
    """Yield the address of nginx with the documented site before two ports."""
    program = nginx_program()
    proxy_port = free_port()
    site = SITE
    changes = [
        ("7861", str(ports[0])),
        ("7862", str(ports[1])),
        ("listen 8080", f"listen 127.0.0.1:{proxy_port}"),
        ("add_header", "add_header X-Replica $upstream_addr; add_header"),
    ]
    if not sticky:
        changes.append(("hash $visitor consistent;", ""))
    for before, after in changes:
        assert site.count(before) == 1, before
        site = site.replace(before, after)
    (place / "nginx.conf").write_text(WHOLE.format(site=site))
    command = [program, "-p", f"{place}/", "-c", "nginx.conf"]
    address = f"http://127.0.0.1:{proxy_port}"
    with process(command, f"{address}/health", place / "log.txt"):
        yield address


def call_once(client: httpx.Client) -> tuple[bool, set[str]]:
    """Return whether one call through the queue succeeded, and which replicas took part."""
    post_answer = client.post("/gradio_api/call/models", json={"data": []})
    if post_answer.status_code != 200:
        return False, set()
    replica_names = {post_answer.headers["X-Replica"]}
    try:
        answer = client.get(f"/gradio_api/call/models/{post_answer.json()['event_id']}")
    except httpx.RemoteProtocolError:  # a process that does not know the event breaks off
        return False, replica_names
    good = answer.status_code == 200 and "event: complete" in answer.text
    return good, replica_names | {answer.headers["X-Replica"]}


def visit_once(address: str) -> tuple[bool, set[str]]:
    """Return whether a new browser got the page and one answer, and from which replicas."""
    with httpx.Client(base_url=address, timeout=60) as client:
        page = client.get("/")
        good, replica_names = call_once(client)
        return page.status_code == 200 and good, replica_names | {page.headers["X-Replica"]}


def test_visitors_are_spread_and_each_stays_with_one_process(replicas, tmp_path):
    ports, _ = replicas
    with nginx(ports, tmp_path) as address:
        outcomes = [visit_once(address) for _ in range(24)]
        assert all(good for good, _ in outcomes)
        assert all(len(replica_names) == 1 for _, replica_names in outcomes)
        assert set.union(*(replica_names for _, replica_names in outcomes)) == {
            f"127.0.0.1:{p}" for p in ports
        }
        with httpx.Client(base_url=address, timeout=60) as client:
            client.get("/")
            calls = [call_once(client) for _ in range(6)]
            assert all(good for good, _ in calls)
            assert len(set.union(*(replica_names for _, replica_names in calls))) == 1


def test_scripts_without_cookies_get_their_answers(replicas, tmp_path):
    ports, _ = replicas
    with nginx(ports, tmp_path) as address:
        for _ in range(24):
            with httpx.Client(base_url=address, timeout=60) as client:
                assert call_once(client)[0]


def test_without_stickiness_calls_fail(replicas, tmp_path):
    ports, _ = replicas
    with nginx(ports, tmp_path, sticky=False) as address:
        outcomes = [visit_once(address)[0] for _ in range(24)]
    assert not all(outcomes)


def test_the_proxy_refuses_to_fetch_for_others_and_large_bodies(replicas, tmp_path):
    ports, _ = replicas
    with nginx(ports, tmp_path) as address:
        for path in ("/gradio_api/file=https://example.org/x", "/gradio_api/FILE=http://a/b"):
            assert httpx.get(address + path).status_code == 403
        body = b"x" * 14_000_000
        assert httpx.post(f"{address}/gradio_api/upload", content=body).status_code == 413


def test_new_visitors_survive_the_death_of_a_process(replicas, tmp_path):
    ports, first = replicas
    with nginx(ports, tmp_path) as address:
        first.send_signal(signal.SIGKILL)
        first.wait()
        outcomes = [visit_once(address) for _ in range(12)]
    assert all(good for good, _ in outcomes)
    assert all(f"127.0.0.1:{ports[1]}" in replica_names for _, replica_names in outcomes)


def test_a_page_is_served_below_a_path(tmp_path):
    text = (ROOT / "docs" / "tutorials" / "host.md").read_text()
    location = text.split("```nginx\n")[1].split("```")[0]
    port, proxy_port = free_port(), free_port()
    program = nginx_program()
    site = f"server {{ listen 127.0.0.1:{proxy_port}; {location.replace('7860', str(port))} }}"
    (tmp_path / "nginx.conf").write_text(WHOLE.format(site=site))
    words = ["demo", "--port", str(port), "--root-path", "/whylens"]
    page = [sys.executable, "-m", "whylens.ui.cli.app", *words]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    proxy = [program, "-p", f"{tmp_path}/", "-c", "nginx.conf"]
    address = f"http://127.0.0.1:{proxy_port}/whylens"
    with (
        process(page, f"http://127.0.0.1:{port}/", tmp_path / "page.txt", env=variables),
        process(proxy, f"{address}/health", tmp_path / "log.txt"),
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        html = client.get("/").text
        links = re.findall(r'(?:src|href)="(/[^"]+|\./[^"]+|https?://127[^"]+)"', html)
        assert links
        for link in set(links) - {"/manifest.json"}:  # of an app that Gradio's page could be
            assert client.get(str(httpx.URL(f"{address}/").join(link))).status_code == 200, link
        assert client.get("/config").json()["root"] == address
        post_answer = client.post("/gradio_api/call/models", json={"data": []}).json()
        answer = client.get(f"/gradio_api/call/models/{post_answer['event_id']}").text
        assert "event: complete" in answer
