"""`make processors`: the numbers hold on other processors, and Ctrl-C works in the background.

Torch, oneDNN, MKL, OpenBLAS and numpy choose their kernels by the processor; variables make them
take those of an older one. Under each setting every method and metric is compared with its formula
written out and passes its kit, and the shipped networks are as good as their reports; two of them
are explained by every method, and all settings must show the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
    "OMP_NUM_THREADS": "4",
}
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4",
    "OMP_NUM_THREADS": "2",
}
# Whatever there is: AVX-512 where it is.
OWN = {"OMP_NUM_THREADS": "1"}
WRITTEN_OUT = (
    "the_map_is or map_and_error or map_error or written_out or number_by_number or formula"
)
# Rooms of the tests and what is asked of them; each is a run of its own, so that one which finds
# nothing to do fails.
TESTS = {
    "formulas": ("tests/methods", "tests/evaluation", WRITTEN_OUT),
    "kits": ("tests/conformance", "tests/evaluation", "every_built_in_passes"),
    "shipped": ("tests/shipped", "test"),
}
NETWORKS = ("painted-cats-breed", "painted-cats-vit")
# Share of a map. Where rounding decides on which side of its kink a ReLU is, its gradient is
# another: measured up to 1.6e-3; maps without such gradients agree to 3e-6. A search by gradient
# takes hundreds of such steps and turns where a margin is reached: measured 5.7e-3.
APART, SEARCHES = 0.01, {"contrastive": 0.05}


def main() -> int:
    """Run everything, write how long each part took, and return 1 if anything failed."""
    settings = {"an old processor, 4 threads": OLD, "this processor, 1 thread": OWN}
    if "avx2" in _cpu_flags():
        settings["AVX2, 2 threads"] = AVX2
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(2) as pool:
        maps = {name: Path(place) / f"{n}.npz" for n, name in enumerate(settings)}
        work = []
        for name, variables in settings.items():
            for title, words in TESTS.items():
                work.append(pool.submit(_run, f"{title}, {name}", _pytest(*words), variables))
            explain = [sys.executable, "-m", "tests.processors", str(maps[name])]
            work.append(pool.submit(_run, f"maps, {name}", explain, variables))
        failures = [name for job in work if (name := job.result())]
        if not failures:
            first, *other_settings = settings
            for setting in other_settings:
                failures += _differences(maps[first], maps[setting], f"{first} / {setting}")
    # As a shell starts what it puts into the background; children inherit it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupted = _pytest("tests/cli", "tests/batch", "ctrl_c or still_starting")
    failures += filter(None, [_run("Ctrl-C where SIGINT was ignored", interrupted, {})])
    for title in failures:
        sys.stdout.write(f"FAILED: {title}\n")
    return 1 if failures else 0


def _cpu_flags() -> list[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split() for line in lines if line.startswith("flags")), [])


def _pytest(*words: str) -> list[str]:
    *places, keyword = words
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return [*command, "-m", "not slow", *places, "-k", keyword]


def _run(title: str, command: list[str], variables: dict[str, str]) -> str:
    """Return what failed, or ""."""
    began = time.monotonic()
    process = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = process.stdout.strip().splitlines()
    output = "\n".join(lines if process.returncode else lines[-1:])
    sys.stdout.write(f"{title}: {time.monotonic() - began:.0f} s\n{output}\n")
    sys.stdout.flush()
    return f"{title} (exit code {process.returncode})" if process.returncode else ""


def _differences(first: Path, second: Path, between: str) -> list[str]:
    shares = {}
    with np.load(first) as a, np.load(second) as b:
        if sorted(a.files) != sorted(b.files):
            return [f"{between}: not the same methods answered"]
        for name in a.files:
            if a[name].dtype.kind == "U":
                shares[name] = float(str(a[name]) != str(b[name]))
            else:
                size = max(float(np.linalg.norm(a[name])), 1e-30)
                shares[name] = float(np.linalg.norm(a[name] - b[name])) / size
    largest = max(shares, key=shares.__getitem__)
    sys.stdout.write(
        f"{between}: {len(shares)} answers; most apart is {largest}, {shares[largest]:.1e}\n"
    )
    return [
        f"{between}: {name}, {share:.1e}"
        for name, share in shares.items()
        if share > SEARCHES.get(name, APART)
    ]


def save_maps(path: Path) -> None:
    """Write what every method says of one picture: its map, or its examples and their values.

    Args:
        path: A .npz file.
    """
    from tests.support.shipped_networks import available, final_answer, shipped_engine
    from whylens.core.datasets.by_name import load_dataset
    from whylens.core.explanation import Question
    from whylens.core.results import Heatmap

    maps: dict[str, np.ndarray] = {}
    with shipped_engine() as engine:
        cats = load_dataset("painted-cats:breed", engine.registry.datasets)
        pixels = cats.pixels(cats.of("test")[0])
        for network in NETWORKS:
            for method in available(engine, network):
                if method in maps:
                    continue
                result = final_answer(engine, Question(network, pixels), method).result
                if isinstance(result, Heatmap):
                    maps[method] = result.values
                    continue
                maps[method] = np.array([item.value for item in result.items])
                items = [(item.key, item.group, item.marks) for item in result.items]
                maps[f"{method}, examples"] = np.array(repr(items))
    np.savez(path, **maps)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        save_maps(Path(sys.argv[1]))
    else:
        sys.exit(main())
