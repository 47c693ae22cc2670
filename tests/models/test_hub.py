"""Weights from a Hub on loopback: cut, damaged, stalled, dripping, missing, and not there at all.

One child process stands for the program: what the Hub's client reads from the environment, it
reads at import. Networks are loaded in this one, where torch is there already.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from tests.conftest import ROOT
from tests.support.networks import seeded
from whylens.core.errors import WeightsUnavailable
from whylens.core.models.hub import Timeouts, download_in_child

# Seconds after which a test's download counts as stalled.
STALL = 1.0
PROGRAM = """
import json, sys, time

import whylens.core.models.hub as hub
from whylens.core.errors import CoreError
from whylens.core.models.hub import Timeouts

for line in sys.stdin:
    ask = json.loads(line)
    timeouts = Timeouts(**ask.get("timeouts", {}))
    shares = []
    began = time.monotonic()
    try:
        got = hub.hub_file(
            ask["repo"],
            "model.safetensors",
            timeouts=timeouts,
            progress=lambda share, _: shares.append(share),
        )
        answer = {"path": str(got.path), "sha256": got.sha256}
    except CoreError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    answer["seconds"] = time.monotonic() - began
    answer["shares"] = shares
    print(json.dumps(answer), flush=True)
"""


@dataclass
class Repo:
    """One file of the Hub and how it is served."""

    content: bytes
    mode: str = "good"
    etag: str = ""
    gets: list = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.etag = self.etag or hashlib.sha256(self.content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        if (repo := self._repo()) is not None:
            self._head(200, {"Content-Length": len(repo.content)}, repo)

    def do_GET(self) -> None:
        if (repo := self._repo()) is None:
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked.group(1)) if asked else 0
        repo.gets.append(start)
        body, size = repo.content[start:], len(repo.content)
        more = {"Content-Length": len(body)}
        if start:
            more["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._head(206 if start else 200, more, repo)
        getattr(self, "_" + repo.mode.replace(" ", "_"))(repo, body)

    def _repo(self) -> Repo | None:
        owner, name, _, _, filename = self.path.strip("/").split("/")
        repo = self.server.repos.get(f"{owner}/{name}/{filename}")
        if repo is not None:
            return repo
        repo = self.server.repos.get(f"{owner}/{name}")
        if repo is None:
            self._head(404, {"Content-Length": 0, "X-Error-Code": "RepoNotFound"})
        elif repo.mode == "gated":
            self._head(403, {"Content-Length": 0, "X-Error-Code": "GatedRepo"})
        elif repo.mode == "broken":
            self._head(500, {"Content-Length": 0})
        elif repo.mode == "empty":
            self._head(404, {"Content-Length": 0, "X-Error-Code": "EntryNotFound"}, repo)
        else:
            assert filename == "model.safetensors"
            return repo
        return None

    def _head(self, status: int, more: dict, repo: Repo | None = None) -> None:
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, str(value))
        if repo is not None:
            self.send_header("ETag", f'"{repo.etag}"')
            self.send_header("X-Repo-Commit", "c0ffee" * 6 + "c0de")
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def _good(self, repo: Repo, body: bytes) -> None:
        self.wfile.write(body)

    def _wrong(self, repo: Repo, body: bytes) -> None:
        self.wfile.write(body[:-1] + bytes([body[-1] ^ 1]))

    def _cut_once(self, repo: Repo, body: bytes) -> None:
        repo.mode = "good"
        self._hang_up(body[: len(body) // 2])

    def _cut_always(self, repo: Repo, body: bytes) -> None:
        self._hang_up(b"")

    def _hang_up(self, body: bytes) -> None:
        self.wfile.write(body)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _stall(self, repo: Repo, body: bytes) -> None:
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self._until_left(repo)

    def _drip(self, repo: Repo, body: bytes, *, piece: int = 1, pause: float = 0.02) -> None:
        try:
            for i in range(0, len(body), piece):
                self.wfile.write(body[i : i + piece])
                self.wfile.flush()
                if self.server.closing.wait(pause):
                    break
        except OSError:
            repo.ended.set()
        self.close_connection = True

    def _trickle(self, repo: Repo, body: bytes) -> None:
        self._drip(repo, body, piece=10_000, pause=0.1)

    def _until_left(self, repo: Repo) -> None:
        self.connection.settimeout(20)
        if self.connection.recv(1) == b"":  # the other side is gone
            repo.ended.set()
        self.close_connection = True


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.closing = threading.Event()

    def handle_error(self, request, client_address) -> None:
        pass  # the other side hanging up is what these tests are about

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


# What would lead the Hub's client elsewhere.
NOT_OURS = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN")


class Program:
    """The child process, asked by one line and answering by one."""

    def __init__(self, home, endpoint: str) -> None:
        kept = {k: v for k, v in os.environ.items() if k not in NOT_OURS}
        self.child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={
                **kept,
                "HF_ENDPOINT": endpoint,
                "HF_HOME": str(home),
                "HF_HUB_DISABLE_XET": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question) -> dict:
        self.child.stdin.write(json.dumps(question) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def close(self) -> None:
        self.child.stdin.close()
        self.child.wait(20)
        self.child.stdout.close()


@pytest.fixture(scope="module")
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hub-home")


@pytest.fixture(scope="module")
def program(hub, home):
    with closing(Program(home, hub.address)) as running:
        yield running


@pytest.fixture
def load_online(hub, home):
    """Load a network by its name with the Hub in reach; return what it is, or how it is refused."""
    from huggingface_hub import constants

    from whylens.core.errors import CoreError
    from whylens.core.models.load import load

    def answer(name: str) -> dict:
        with pytest.MonkeyPatch.context() as patch:
            for variable in NOT_OURS:
                patch.delenv(variable, raising=False)
            patch.setenv("HF_ENDPOINT", hub.address)  # for the child that downloads
            patch.setenv("HF_HOME", str(home))
            at_hub = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.address)
            patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", at_hub)
            patch.setattr(constants, "ENDPOINT", hub.address)
            patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
            patch.setattr(constants, "HF_HUB_OFFLINE", False)
            try:
                net = load(name)
            except CoreError as error:
                return {"error": type(error).__name__, "message": str(error)}
        return {
            "sha256": net.identity.digest,
            "classes": len(net.labels),
            "licence": net.identity.licence,
            "source": net.identity.source,
            "logits": net.logits(net.probe_inputs())[0, :5].tolist(),
        }

    return answer


@pytest.fixture
def serve(hub):
    """Put a file on the Hub under a name of its own."""

    def put(mode: str = "good", *, size: int = 200_000, **more) -> tuple[str, Repo]:
        name = f"acme/number-{len(hub.repos)}"
        repo = Repo(os.urandom(size), mode, **more)
        hub.repos[name] = repo
        return name, repo

    return put


def blobs(home, name: str):
    return home / "hub" / ("models--" + name.replace("/", "--")) / "blobs"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_fetched_once_and_then_comes_from_the_disk(program, serve):
    name, repo = serve()
    first, second = program.ask(repo=name), program.ask(repo=name)
    assert first["sha256"] == second["sha256"] == sha(repo.content)
    assert repo.gets == [0]


def test_progress_grows_and_stays_a_share(program, serve):
    name, _ = serve("cut once", size=3_000_000)  # its second of waiting lets the watcher look
    shares = program.ask(repo=name)["shares"]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] < 1
    assert shares[-1] > 0.4  # half of it had come when the line was cut


def test_a_cut_download_is_resumed_where_it_was_cut(program, serve):
    name, repo = serve("cut once")
    assert program.ask(repo=name)["sha256"] == sha(repo.content)
    assert len(repo.gets) == 2
    assert 0 < repo.gets[1] <= 100_000


def test_a_slow_download_that_moves_is_not_given_up(program, serve):
    name, repo = serve("trickle")  # two seconds of it: longer than the timeouts
    answer = program.ask(repo=name, timeouts={"stall": STALL, "floor": 15_000})
    assert answer["sha256"] == sha(repo.content)
    assert answer["seconds"] > STALL
    assert repo.gets == [0]


def test_a_download_cut_again_and_again_fails_in_words_and_the_next_try_works(program, serve, home):
    name, repo = serve("cut always")
    answer = program.ask(repo=name, timeouts={"stall": STALL})
    assert answer["error"] == "WeightsUnavailable"
    assert re.search(r"stalled|failed", answer["message"])
    assert "Choose a local checkpoint" in answer["message"]
    assert repo.gets
    assert list(blobs(home, name).iterdir()) == []
    repo.mode = "good"
    assert program.ask(repo=name)["sha256"] == sha(repo.content)


@pytest.mark.parametrize("kind", ["sha256", "git"])
def test_wrong_bytes_of_the_right_length_are_refused_and_deleted(program, serve, home, kind):
    name, repo = serve("wrong")
    if kind == "git":  # small files carry git's hash instead
        head = b"blob %d\0" % len(repo.content)
        repo.etag = hashlib.sha1(head + repo.content).hexdigest()
    answer = program.ask(repo=name)
    assert answer["error"] == "BadArtifact"
    assert "arrived damaged" in answer["message"]
    assert "Try again" in answer["message"]
    assert list(blobs(home, name).iterdir()) == []
    repo.mode = "good"
    assert program.ask(repo=name)["sha256"] == sha(repo.content)


@pytest.mark.parametrize("harm", [pytest.param("truncated", marks=pytest.mark.slow), "flipped"])
def test_a_cached_file_that_rots_is_refused_deleted_and_fetched_anew(program, serve, home, harm):
    name, repo = serve()
    assert "path" in program.ask(repo=name)
    (blob,) = blobs(home, name).iterdir()
    content = blob.read_bytes()
    blob.write_bytes(content[:-7] if harm == "truncated" else b"\0" + content[1:])
    answer = program.ask(repo=name)
    assert answer["error"] == "BadArtifact"
    assert "on this disk are damaged" in answer["message"]
    assert not blob.exists()
    assert program.ask(repo=name)["sha256"] == sha(repo.content)
    assert len(repo.gets) == 2


@pytest.mark.parametrize(
    ("mode", "floor"),
    [
        ("stall", 20_000),
        pytest.param("drip", 20_000, marks=pytest.mark.slow),
        pytest.param("trickle", 1_000_000, marks=pytest.mark.slow),
    ],
)
def test_a_download_that_hardly_moves_is_given_up_and_its_process_ended(
    program, serve, home, mode, floor
):
    name, repo = serve(mode, size=900_000 if mode == "trickle" else 200_000)
    answer = program.ask(repo=name, timeouts={"stall": STALL, "floor": floor})
    assert answer["error"] == "WeightsUnavailable"
    assert "stalled" in answer["message"]
    assert "Choose a local checkpoint" in answer["message"]
    assert repo.gets == [0]
    assert STALL <= answer["seconds"] < 8
    assert repo.ended.wait(5), "the downloading process still holds the line"
    assert list(blobs(home, name).iterdir()) == [], "half a file stayed on the disk"
    repo.mode = "good"
    assert program.ask(repo=name)["sha256"] == sha(repo.content)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("empty", "has no model.safetensors"),
        ("gated", "accepted their terms"),
        ("broken", r"answered with an error \(500\)"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(program, serve, mode, words):
    name, repo = serve(mode)
    answer = program.ask(repo=name)
    assert answer["error"] == "WeightsUnavailable"
    assert re.search(words, answer["message"])
    assert re.search("[Cc]hoose", answer["message"])
    assert repo.gets == []


def test_a_repository_that_does_not_exist_is_said_in_words(program):
    answer = program.ask(repo="acme/nowhere")
    assert answer["error"] == "WeightsUnavailable"
    assert "Choose another tag" in answer["message"]


@pytest.fixture(scope="module")
def far_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def far_program(far_port, tmp_path_factory):
    home = tmp_path_factory.mktemp("far-home")
    with closing(Program(home, f"http://127.0.0.1:{far_port}")) as running:
        running.ask(repo="acme/imported-by-now")
        yield running


@contextmanager
def closed_port(port: int):
    yield


@contextmanager
def mute(port: int):
    with socket.create_server(("127.0.0.1", port)):
        yield


@contextmanager
def black_hole(port: int):
    # The queue of a listener that never accepts is full: further connections are not even refused.
    with ExitStack() as stack:
        stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield


@contextmanager
def dripping_header(port: int):
    ended = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(20)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not ended.wait(0.05):
                connection.sendall(b"z")

    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.settimeout(20)
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    ("nobody", "probe"),
    [
        (closed_port, 3.0),
        pytest.param(mute, 1.0, marks=pytest.mark.slow),
        (black_hole, 1.0),
        (dripping_header, 1.0),
    ],
    ids=["closed port", "mute", "black hole", "dripping header"],
)
def test_where_nothing_answers_it_is_known_in_seconds_and_what_to_choose_instead(
    far_program, far_port, nobody, probe
):
    with nobody(far_port):
        answer = far_program.ask(repo="acme/far-away", timeouts={"probe": probe})
    assert answer["error"] == "WeightsUnavailable"
    assert "cannot be reached" in answer["message"]
    assert "Choose a local checkpoint" in answer["message"]
    assert answer["seconds"] < probe + 1


def put_network(hub, name: str) -> torch.Tensor:
    """Put a network with random weights on the Hub; return some of its logits."""
    import timm
    from safetensors.torch import save

    from whylens.core.inputs.spec import probe_inputs
    from whylens.core.models.load import timm_spec

    module = seeded(timm.create_model(name))
    hub.repos[f"timm/{name}"] = Repo(save(module.state_dict()))
    with torch.no_grad():
        return module(probe_inputs(timm_spec(module)))[0, :5]


# The second is one of timm's names whose old files were .npz, which timm reads in another way.
NETWORKS = [
    "test_resnet.r160_in1k",
    pytest.param("vit_tiny_patch16_224.augreg_in21k_ft_in1k", marks=pytest.mark.slow),
]


@pytest.mark.slow  # networks come from the Hub below; what a config may say is in test_models.py
def test_a_repository_that_timm_wrote_is_a_model_by_its_name(load_online, hub):
    import timm
    from safetensors.torch import save

    from whylens.core.inputs.spec import InputSpec, probe_inputs

    module = seeded(timm.create_model("test_resnet", num_classes=3, in_chans=1))
    config = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "label_names": ["a", "b", "c"],
        "model_args": {"in_chans": 1},
        "pretrained_cfg": {
            "input_size": [1, 64, 64], "mean": [0.5], "std": [0.2], "license": "cc0-1.0",
        },
    }  # fmt: skip

    def put(name: str, **changes) -> str:
        hub.repos[f"acme/{name}"] = Repo(save(module.state_dict()))
        hub.repos[f"acme/{name}/config.json"] = Repo(json.dumps({**config, **changes}).encode())
        return f"hf-hub:acme/{name}"

    answer = load_online(put("mine"))
    assert (answer.get("classes"), answer["licence"]) == (3, "cc0-1.0"), answer
    input_spec = InputSpec(size=(64, 64), channels=1, mean=(0.5,), std=(0.2,))
    with torch.no_grad():
        expected = module(probe_inputs(input_spec))[0]
    assert answer["logits"] == pytest.approx(expected.tolist(), rel=1e-4)
    for name, changes, words in (
        ("huge", {"architecture": "vit_giant_patch14_224", "model_args": {}}, "do not fit"),
        ("path", {"model_args": {"checkpoint_path": "/etc/passwd"}}, "no part of an architecture"),
        ("evil", {"architecture": "hf-hub:acme/mine"}, "no known architecture"),
        ("none", {"num_classes": 0}, "num_classes"),
    ):
        answer = load_online(put(name, **changes))
        assert answer.get("error") == "BadArtifact", answer
        assert words in answer["message"]


def put_transformers(hub, folder, name: str, **changes) -> str:
    """Put what lies in a folder of transformers on the Hub, its config.json changed."""
    for path in folder.iterdir():
        content = path.read_bytes()
        if path.name == "config.json":
            content = json.dumps({**json.loads(content), **changes}).encode()
        hub.repos[f"acme/{name}/{path.name}"] = Repo(content)
    hub.repos[f"acme/{name}"] = Repo(b"", "empty")
    return f"hf:acme/{name}"


@pytest.mark.slow  # test_transformers_folder.py reads such folders; here one comes over a network
def test_a_classifier_of_transformers_is_a_model_by_its_name(
    load_online, hub, home, monkeypatch, tmp_path
):
    pytest.importorskip("transformers", reason="the extra [transformers] is absent")
    from tests.models.test_transformers_folder import networks
    from whylens.core.errors import NotAllowed
    from whylens.core.models.load import load
    from whylens.core.models.public_models import check_public_model

    config, network_type, processor = networks()["vit"]
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = network_type(config).eval()
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    name = put_transformers(hub, tmp_path, "vit")
    answer = load_online(name)
    assert answer.get("classes") == 3, answer
    assert answer["source"] == "Hub: acme/vit"
    assert answer["sha256"] == sha((tmp_path / "model.safetensors").read_bytes())
    # This process has no network, and needs none once the files are there.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    backbone = load(name)
    assert (backbone.name, backbone.labels) == (name, ("ant", "bee", "cat"))
    x = backbone.probe_inputs()
    with torch.no_grad():
        wanted = network(pixel_values=x).logits
    torch.testing.assert_close(backbone.logits(x), wanted)
    assert answer["logits"] == pytest.approx(wanted[0].tolist(), rel=1e-4)
    count = sum(p.numel() for p in network.parameters())
    assert check_public_model(name, [], limit=count).name == "acme/vit"
    with pytest.raises(NotAllowed, match="Choose a smaller model"):
        check_public_model(name, [], limit=count - 1)
    with pytest.raises(WeightsUnavailable, match="OFFLINE is set"):
        check_public_model("hf:acme/never-fetched", [])
    for name, changes, words in (
        ("deep", {"num_hidden_layers": 10**9}, "1,000,000,000 layers"),
        ("nested", {"vision_config": {"num_hidden_layers": 10**9}}, "1,000,000,000 layers"),
        ("repeats", {"num_block_repeats": [10**9]}, "1,000,000,000 layers"),
        ("empty", {"depths": [0] * 2000}, "2,000 layers"),
        ("wide", {"num_labels": 10**9}, "1,000,000,000 labels"),
        ("text", {"model_type": "bert"}, "cannot be read as an image classifier"),
        ("code", {"model_type": "mine", "auto_map": {"AutoConfig": "c.C"}}, "cannot be read"),
        ("timm", {"model_type": "timm_wrapper"}, "of another library"),
        ("file", {"model_args": {"checkpoint_path": "/etc/passwd"}}, "of another library"),
        ("part", {"backbone": "resnet18", "use_pretrained_backbone": True}, "another library"),
    ):
        answer = load_online(put_transformers(hub, tmp_path, name, **changes))
        assert answer.get("error") == "BadArtifact", answer
        assert words in answer["message"]
        assert hub.repos[f"acme/{name}/model.safetensors"].gets == []
    name = put_transformers(hub, tmp_path, "big")
    hub.repos["acme/big/model.safetensors"].content += b"x" * (8 * count + 10_000_000)
    answer = load_online(name)
    assert "at most 10." in answer["message"], answer
    assert hub.repos["acme/big/model.safetensors"].gets == []
    name = put_transformers(hub, tmp_path, "pickled")
    del hub.repos["acme/pickled/model.safetensors"]
    answer = load_online(name)
    assert "only safetensors are loaded" in answer["message"], answer


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_loads_from_the_hub_and_then_without_it(
    load_online, hub, home, monkeypatch, name
):
    from whylens.core.models.load import load

    expected = put_network(hub, name)
    online = load_online(name)
    # This process has no network: conftest.py sets HF_HUB_OFFLINE before the client is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    repo = hub.repos[f"timm/{name}"]
    offline = load(name)
    logits = offline.logits(offline.probe_inputs())[0, :5]
    assert repo.gets == [0]
    assert online["classes"] == len(offline.labels) == 1000
    assert online["sha256"] == offline.identity.digest == sha(repo.content)
    assert online["source"] == offline.identity.source == f"Hub: timm/{name}"
    assert online["licence"] == offline.identity.licence
    assert online["licence"] not in ("", "None")
    torch.testing.assert_close(torch.tensor(online["logits"]), expected)
    torch.testing.assert_close(logits, expected)
    with pytest.raises(WeightsUnavailable, match=r"OFFLINE is set.*Choose a local checkpoint"):
        load("test_vit.r160_in1k")


def test_weights_of_another_network_are_refused_in_words(load_online, hub):
    from safetensors.torch import save

    hub.repos["timm/test_vit2.r160_in1k"] = Repo(save({"conv.weight": torch.zeros(3)}))
    answer = load_online("test_vit2.r160_in1k")
    assert answer["error"] == "BadArtifact"
    assert "do not fit its architecture" in answer["message"]


def test_a_network_without_classes_is_refused_before_anything_is_fetched(load_online, hub):
    name = "vit_small_patch14_dinov2.lvd142m"
    hub.repos[f"timm/{name}"] = repo = Repo(b"never read")
    answer = load_online(name)
    assert answer["error"] == "BadArtifact"
    assert "no decision to explain" in answer["message"]
    assert repo.gets == []


def test_ctrl_c_does_not_reach_the_child_that_downloads(tmp_path):
    code = (
        "import signal; print(flush=True);"
        "print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    last = download_in_child(
        code, [], what="x", into=tmp_path, size=0, timeouts=Timeouts(), progress=None
    )
    assert last == "True"
