"""Readers of strangers' files, asked what no file holds: each may refuse it, in words, and no more.

`python -m benchmarks.fuzz` lets atheris (libFuzzer) make up inputs for ten minutes each, guided by
what code they reach; `--seconds 30 photo` asks less. Whatever a reader raises but a refusal is
printed once for each place; `--write docs/fuzz.md` records the run.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.table import markdown, this_machine

ROOT = Path(__file__).resolve().parents[1]
Read = Callable[[bytes], object]
SLOW_SECONDS = 5.0
MEMORY_MB = 3_000
MARK = "FINDING "


# What is to be followed is imported where it is followed: see `fuzz`.
def readers(folder: Path) -> dict[str, tuple[Read, str]]:
    """Return what reads bytes, by name, and in words what it is.

    Args:
        folder: An empty one, for readers that take files.
    """
    from whylens.core.datasets.arrays import ArraySet
    from whylens.core.datasets.npz import ImageArchive
    from whylens.core.datasets.zip import pictures_in_zip
    from whylens.core.inputs.photo import read_photo
    from whylens.core.inputs.signal import read_signal, signal_in
    from whylens.core.models.checkpoints import MANIFEST, read_manifest, read_weights
    from whylens.core.progress import run
    from whylens.core.storage.artifacts import ARRAYS, FACTS, read_artifact
    from whylens.core.train.report import REPORT, read_report

    artifact_facts, input_spec = _artifact(folder / "artifact")

    def of_file(name: str, read: Callable[[Path], object]) -> Read:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def from_bytes(data: bytes) -> object:
            path.write_bytes(data)
            return read(path)

        return from_bytes

    def artifact(path: Path) -> object:
        if path.name == ARRAYS:  # so that more of it is read than its sum
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            facts = {**artifact_facts, "sha256": sha256}
            (path.parent / FACTS).write_text(json.dumps(facts))
        return read_artifact(path.parent, method="toy", weights="0" * 64, input_spec=input_spec)

    return {
        "photo": (read_photo, "a photo's bytes"),
        "zip": (of_file("a.zip", lambda path: run(pictures_in_zip(path))), "a ZIP of pictures"),
        "archive": (
            _with_one_member(folder / "a.npz", seeds("archive", folder)[0], ImageArchive),
            "an archive of pictures",
        ),
        "arrays": (
            _with_one_member(folder / "b.npz", seeds("arrays", folder)[0], ArraySet),
            "images and labels as arrays",
        ),
        "csv": (lambda data: read_signal(data, "a.csv"), "a signal as CSV"),
        "npy": (lambda data: read_signal(data, "a.npy"), "a signal as .npy"),
        "signal": (signal_in, "a signal within a picture"),
        "manifest": (of_file(f"model/{MANIFEST}", lambda p: read_manifest(p.parent)), "model.json"),
        "weights": (
            of_file("w.safetensors", lambda path: read_weights(path, sha256=None)),
            "a network's weights",
        ),
        "facts": (of_file(f"artifact/{FACTS}", artifact), "an artifact's facts"),
        "values": (of_file(f"artifact/{ARRAYS}", artifact), "an artifact's arrays"),
        "report": (of_file(f"model/{REPORT}", lambda p: read_report(p.parent)), "a report"),
    }


def _with_one_member(path: Path, archive: bytes, read: Callable[[Path], object]) -> Read:
    """Return what reads an archive of which one member is made up; its sums are right."""
    with zipfile.ZipFile(io.BytesIO(archive)) as sound:
        members = {name: sound.read(name) for name in sound.namelist()}

    def from_bytes(data: bytes) -> object:
        made_up = list(members)[data[0] % len(members)] if data else ""
        with zipfile.ZipFile(path, "w") as changed:
            for name, content in members.items():
                changed.writestr(name, data[1:] if name == made_up else content)
        return read(path)

    return from_bytes


def _artifact(folder: Path) -> tuple[dict[str, object], object]:
    from whylens.core.inputs.spec import InputSpec
    from whylens.core.storage.artifacts import FACTS, Artifact, write_artifact

    input_spec = InputSpec(size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), crop=1.0)
    arrays = {"rows": np.ones((3, 2), np.float32), "places": np.arange(4, dtype=np.int64)}
    artifact = Artifact(arrays, {"labels": ["a", "b"]})
    write_artifact(
        folder, artifact, method="toy", model="toy", weights="0" * 64, input_spec=input_spec
    )
    return json.loads((folder / FACTS).read_text()), input_spec


def seeds(target: str, folder: Path) -> list[bytes]:
    """Return sound inputs of a reader, to begin with."""
    if target == "signal":
        from whylens.core.inputs.signal import signal_picture

        return [signal_picture(np.arange(24, dtype=np.float32).reshape(2, 12))]
    if target in ("archive", "arrays"):
        stream = io.BytesIO()
        pictures = [np.frombuffer(_picture("JPEG"), np.uint8)] * 8
        labels, offset = np.arange(8) % 2, np.cumsum([0, *map(len, pictures)])
        whole = {"jpeg": np.concatenate(pictures), "offset": offset, "label": labels}
        whole |= {"classes": np.array(["a", "b"]), "is_test": np.arange(8) > 5}
        images = np.arange(8 * 48, dtype=np.uint8).reshape(8, 4, 4, 3)
        np.savez(stream, **(whole if target == "archive" else {"images": images, "labels": labels}))
        with zipfile.ZipFile(stream) as archive:  # each of its members in turn: `_with_one_member`
            members = [archive.read(name) for name in archive.namelist()]
        return [stream.getvalue(), *(bytes([n]) + m for n, m in enumerate(members))]
    if target == "photo":
        return [_picture(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")]
    if target == "zip":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for number in range(4):
                archive.writestr(f"train/{number % 2}/{number}.png", _picture("PNG"))
        return [stream.getvalue()]
    if target == "csv":
        return [b"1,2,3\n4,5,6\n", "a;b\n1,5;2\n".encode("utf-16"), b"\xef\xbb\xbf1\t2\n"]
    if target == "npy":
        stream = io.BytesIO()
        np.save(stream, np.ones((2, 9), np.float32))
        return [stream.getvalue()]
    checkpoints = sorted((ROOT / "checkpoints").glob("*/"))
    if target in ("manifest", "report"):
        name = {"manifest": "model.json", "report": "report.json"}[target]
        return [
            (place / name).read_bytes()[:20_000]
            for place in checkpoints
            if (place / name).is_file()
        ]
    if target == "weights":
        from safetensors.numpy import save

        return [save({"a": np.ones((2, 3), np.float16), "b": np.zeros(0, np.int64)})]
    _artifact(folder)
    return [
        (folder / {"facts": "artifact.json", "values": "arrays.safetensors"}[target]).read_bytes()
    ]


def _picture(kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def fuzz(target: str, seconds: float) -> None:
    """Ask one reader for so long; the process ends with it."""
    import atheris

    with atheris.instrument_imports(include=["whylens.core", "PIL"]):
        from whylens.core.errors import CoreError

        folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        read, _ = readers(folder)[target]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(target, folder / "seed")):
        (corpus / f"{number}").write_bytes(seed)
    places: set[str] = set()

    def ask(data: bytes) -> None:
        began = time.monotonic()
        try:
            read(data)
        except CoreError:
            pass
        except Exception as exc:  # noqa: BLE001 - it is the finding
            frames = traceback.extract_tb(exc.__traceback__)
            mine = [f for f in frames if "/core/" in f.filename] or frames
            place = f"{type(exc).__name__} at {Path(mine[-1].filename).name}:{mine[-1].lineno}"
            _note(places, place, f"{place}: {exc}", data)
        if (took := time.monotonic() - began) > SLOW_SECONDS:
            _note(places, "slow", f"{took:.1f} s", data)

    atheris.Setup(
        [sys.argv[0], f"-max_total_time={seconds:.0f}", f"-rss_limit_mb={MEMORY_MB}", "-timeout=60",
         "-max_len=40000", f"-artifact_prefix={tempfile.gettempdir()}/", str(corpus)],
        ask,
    )  # fmt: skip
    atheris.Fuzz()


def _note(places: set[str], place: str, words: str, data: bytes) -> None:
    if place not in places:
        places.add(place)
        path = Path(tempfile.gettempdir()) / f"finding-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        print(f"{MARK}{' '.join(words.split())[:300]} ({path})", flush=True)


def run_all(targets: Sequence[str], seconds: float) -> list[list[str]]:
    """Return a row for each reader: what it was asked, and what it did but answer or refuse."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        decoders = readers(Path(folder))
    for target in targets or decoders:
        process = subprocess.run(
            [sys.executable, "-m", "benchmarks.fuzz", target, "--child", "--seconds", f"{seconds}"],
            cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        output = process.stdout + process.stderr
        findings = [line[len(MARK) :] for line in output.splitlines() if line.startswith(MARK)]
        runs = re.search(r"Done (\d+) runs", output)
        if runs is None:
            findings.append(f"ended with code {process.returncode}: {output[-300:]}")
        peak = re.findall(r"rss: (\d+)Mb", output)
        reached = re.findall(r"cov: (\d+)", output)
        for finding in findings:
            print(f"{target}: {finding}", file=sys.stderr)
        rows.append(
            [
                decoders[target][1],
                f"{seconds:.0f}",
                f"{int(runs[1]):,}" if runs else "?",
                reached[-1] if reached else "?",
                f"{max(map(int, peak), default=0)}",
                f"{len(findings)}",
            ]
        )
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    return rows


def document(rows: list[list[str]]) -> str:
    """Return docs/fuzz.md."""
    head = ("What was read", "Seconds", "Inputs", "Places", "Peak MB", "Findings")
    return "\n".join(
        [
            "# Fuzzing",
            "",
            "Readers of strangers' files were given made-up bytes, guided by what code they reach, "
            f"in one recorded run of `make fuzz` ({this_machine()}, shared with other work). "
            "*Places* are those of the code that the bytes reached; a *finding* is anything but an "
            "answer or a refusal in words: "
            f"another error, more than {SLOW_SECONDS:.0f} s, more than {MEMORY_MB:,} MB, the "
            "process's end.",
            "",
            markdown(head, rows),
            "",
        ]
    )


def main() -> None:
    """Fuzz, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        fuzz(args.targets[0], args.seconds)
        return
    text = document(run_all(args.targets, args.seconds))
    print(text)
    if args.write:
        args.write.write_text(text)


if __name__ == "__main__":
    main()
