"""Our speed and memory against the peers', on the same weights, in interleaved rounds.

`python -m benchmarks.compare [--quick] [--write docs/performance.md]` prints a table and, when
asked, writes it down. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks import memory, peers
from benchmarks.peers import NAMES, Bench, Map, bench_of, likeness
from benchmarks.table import HEADINGS, Contest, Measured, Row, cells, markdown, race, verdicts
from whylens.core.engine import Engine
from whylens.core.explanation import Question
from whylens.core.registry import load_registry

ALIKE = 0.99  # correlation below which two maps are not of the same method


@dataclass(frozen=True)
class Setup:
    """What the rows are made of; tests put tiny networks in.

    Attributes:
        bench: A name of `NAMES` to a network and its input.
        growth: Method and architecture to gigabytes.
    """

    bench: Callable[[str], Bench]
    growth: Callable[[str, str], float] = memory.growth


# Whose memory is measured: those that are timed here; all others are held flat by the contract.
MEASURED = ("cam", "grad-cam", "grad-cam++", "score-cam", "integrated-gradients", "occlusion")
METHODS = {"cam": "CAM", "grad-cam": "GradCAM", "grad-cam++": "GradCAMPlusPlus"}
# The peers' Grad-CAM++ is not the paper's: one pads its denominator, the other never divides.
UNLIKE = "grad-cam++"


def rows(setup: Setup) -> Iterator[Row]:
    """Yield every row of the comparison."""
    for net, name in NAMES.items():
        yield from _one_pass_rows(setup, net, name)
    faster = "times as fast as the fastest peer"
    yield Row(
        "Score-CAM, exact, ResNet-18", faster, 2.5, True, 3, lambda: _score_cam(setup, "exact")
    )
    yield Row(
        "Score-CAM, fast (the default), ResNet-18",
        faster,
        4.5,
        True,
        5,
        lambda: _score_cam(setup, "fast"),
    )
    yield Row(
        "Score-CAM, fast against exact, ResNet-18, lowest of 3 photos", "Spearman",
        0.999, True, 1, lambda: _rank_agreement(setup),
    )  # fmt: skip
    for net, goal in (("resnet50", 2.5), ("efficientnet_lite0", 2.0)):
        yield Row(
            f"Occlusion 32/16, {NAMES[net]}", faster, goal, True, 3,
            lambda net=net: _occlusion(setup, net),
        )  # fmt: skip
    yield Row("Integrated Gradients, 32 steps, ResNet-50", faster, 3, True, 3, lambda: _path(setup))
    for method in MEASURED:
        yield Row(
            f"Peak memory of {method}, ResNet-50", "GB", 1.5, False, 1,
            lambda method=method: setup.growth(method, "resnet50"),
        )  # fmt: skip
    yield Row(
        "First Grad-CAM of a new photo on a loaded ResNet-50", "seconds", 0.3, False, 1,
        lambda: _first_map(setup),
    )  # fmt: skip


def _one_pass_rows(setup: Setup, net: str, name: str) -> Iterator[Row]:
    kinds = [m for m in METHODS if not (m == "cam" and net.startswith("vit"))]
    words = " + ".join(kinds)
    yield Row(
        f"{words} together, {name}", "bare forward passes", 1.15, False, 15,
        lambda: _together(setup.bench(net), kinds),
    )  # fmt: skip
    for method in kinds:
        yield Row(
            f"{method}, {name}", "times the fastest peer's time", 1.0, False, 9,
            lambda method=method: _alone(setup.bench(net), method),
        )  # fmt: skip


def _together(bench: Bench, kinds: list[str]) -> Contest:
    def own_map() -> None:
        subject = bench.subject()
        for method in kinds:
            bench.heat(method, subject)

    return Contest(own_map, {"bare forward": bench.forward}, "", over=False)


def _alone(bench: Bench, method: str) -> Contest:
    kind = METHODS[method]
    peer_maps: dict[str, Map] = {
        "torchcam": peers.torchcam_map(bench, kind.replace("PlusPlus", "pp"))
    }
    if method != "cam":
        peer_maps["pytorch-grad-cam"] = peers.grad_cam_map(bench, kind)
    if method == "grad-cam" and bench.prefix is None:  # captum takes tokens for channels
        peer_maps["captum"] = peers.captum_grad_cam(bench)
    own_map = np.maximum(bench.heat(method).values, 0)
    agreement = _agreement(own_map, peer_maps, needed=method != UNLIKE)
    return Contest(lambda: bench.heat(method), dict(peer_maps), agreement, over=False)


def _agreement(own_map: np.ndarray, peer_maps: dict[str, Map], *, needed: bool = True) -> str:
    correlations = {name: likeness(own_map, run()) for name, run in peer_maps.items()}
    words = ", ".join(f"{name} {value:.4f}" for name, value in correlations.items())
    # NaN is no agreement either.
    if needed and not all(value >= ALIKE for value in correlations.values()):
        raise AssertionError(f"these are not maps of the same method: correlation {words}")
    return f"correlation of maps: {words}" + ("" if needed else " (the peers are not the paper's)")


def _score_cam(setup: Setup, mode: str) -> Contest:
    bench = setup.bench("resnet18")
    peer_maps = {"torchcam": peers.torchcam_map(bench, "ScoreCAM")}
    agreement = _agreement(bench.heat("score-cam", mode=mode, fill="grey").values, peer_maps)
    heat = bench.heat("score-cam", mode=mode, fill="grey")
    words = f"; channels asked: {heat.diagnostics['channels asked']:.0f}"
    words += f" of {heat.diagnostics['channels']:.0f}"
    return Contest(
        lambda: bench.heat("score-cam", mode=mode, fill="grey"), dict(peer_maps), agreement + words,
        over=True,
    )  # fmt: skip


def _rank_agreement(setup: Setup) -> float:
    bench, correlations = setup.bench("resnet18"), []
    for photo in ("cat.jpg", "coffee.jpg", "rocket.jpg"):
        photo_bench = replace(bench, photo=photo)
        fast, exact = (
            photo_bench.heat("score-cam", mode=mode).values for mode in ("fast", "exact")
        )
        correlations.append(spearman(fast, exact))
    return min(correlations)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the rank correlation of two maps; ties share their rank."""
    from scipy.stats import spearmanr

    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def _occlusion(setup: Setup, net: str) -> Contest:
    bench = setup.bench(net)
    peer_maps = {"captum": peers.captum_occlusion(bench, 32, 16)}

    def own_map() -> np.ndarray:
        return bench.heat("occlusion", window=32, stride=16, fill="grey").values

    return Contest(own_map, dict(peer_maps), _agreement(own_map(), peer_maps), over=True)


def _path(setup: Setup) -> Contest:
    bench = setup.bench("resnet50")
    peer_maps = {
        f"captum, {words}": peers.captum_gradients(bench, 32, batch)
        for words, batch in (("default batch", None), ("batches of 16", 16))
    }

    def own_map() -> np.ndarray:
        # The number of steps is fixed, as the peer's is: no doubling until the gap is small.
        return bench.heat("integrated-gradients", baseline="grey", steps=32, max_steps=32).values

    return Contest(own_map, dict(peer_maps), _agreement(own_map(), peer_maps), over=True)


def _first_map(setup: Setup) -> float:
    backbone = setup.bench("resnet50").backbone
    engine = Engine(load_registry(), loader=lambda *_: backbone)
    engine.backbone("loaded")
    seconds = []
    for seed in range(8):
        pixels = np.random.default_rng(seed).integers(0, 256, (480, 640, 3), np.uint8)
        began = time.perf_counter()
        for _ in engine.explain(Question("loaded", pixels), "grad-cam"):
            pass
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])  # the very first also warms the processor up


def measure(row: Row, *, rounds: int | None = None) -> Measured:
    """Return one row with its figures."""
    outcome = row.method()
    if isinstance(outcome, Contest):
        return race(row, outcome, rounds=rounds or row.rounds)
    return Measured(row, outcome)


def facts() -> str:
    """Return what the machine is, in words; no names of hosts or people."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line),
        platform.machine(),
    )
    versions = ", ".join(
        f"{name} {version(name)}"
        for name in ("torch", "timm", "grad-cam", "torchcam", "captum", "numpy")
    )
    return (
        f"{model}; {torch.get_num_threads()} threads "
        f"(OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'unset')}); "
        f"{torch.backends.cpu.get_cpu_capability()}; "
        f"Python {platform.python_version()}; {versions}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def page(results: list[Measured], *, quick: bool, load: tuple[float, float]) -> str:
    """Return docs/performance.md.

    Args:
        quick: Whether the run was a quick one.
    """
    table = markdown(HEADINGS, [cells(m) for m in results])
    checks = "\n".join(f"- {m.row.title}: {m.likeness}." for m in results if m.likeness)
    busy = (
        f"The load average was {load[0]:.1f} at the start and {load[1]:.1f} at the end. Where "
        "that is above the number of threads, others were at work: times are too long and ratios "
        "noisy, those of processor time less so."
    )
    length = "A quick run: fewer rounds than `make bench` has.\n\n" if quick else ""
    return TEXT.format(
        length=length, facts=facts(), busy=busy, verdicts=verdicts(results), table=table,
        checks=checks,
    )  # fmt: skip


TEXT = """# Performance

Written by `python -m benchmarks.compare --write docs/performance.md` (`make bench`); every number
below was measured by that command in one run. Edit `benchmarks/`, not this page.

{length}Machine: {facts}. {busy}

How it is measured: all networks have random weights and see a photo of
examples/photos at 224 x 224; every library has its own copy of the same weights. Rounds are
interleaved, everyone once in each, in turning order; a ratio is taken within a round, and the
median over rounds is shown, for time on the clock, by which the goals are judged, and for processor
time. Our side runs as in the app, the forward pass on the photo included; building and checking the
faster copy and its incremental form is not timed, since they are made once per loaded network.
Captum's occlusion runs 16 windows at a time. Peak memory is the growth of the resident set in a
process of its own, over the loaded network, with the defaults of the method; it is stopped after
60 seconds, when all buffers have long been in use.

{verdicts}

{table}

What was compared before timing:

{checks}
"""


def run(rows: Iterable[Row], *, quick: bool) -> list[Measured]:
    """Return every row measured, saying each as it comes.

    Args:
        quick: One round each, or five for the short ones.
    """
    results = []
    for row in rows:
        results.append(measure(row, rounds=(5 if row.rounds > 5 else 1) if quick else None))
        print(" | ".join(cells(results[-1])[:5]), flush=True)
    return results


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", default="", help="rows whose title holds this; not to be written")
    parser.add_argument("--write", type=Path, help="where to write the page")
    args = parser.parse_args(arguments)
    if args.only and args.write:
        parser.error("--only measures a part, which is no page: leave out --write")
    before = os.getloadavg()[0]
    selection = [row for row in rows(Setup(bench_of)) if args.only.lower() in row.title.lower()]
    results = run(selection, quick=args.quick)
    text = page(results, quick=args.quick, load=(before, os.getloadavg()[0]))
    if args.write:
        args.write.parent.mkdir(parents=True, exist_ok=True)
        args.write.write_text(text)
    print(text)


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads that spin while they wait starve each other as soon as anybody else uses the
        # processor, tenfold and more; it is read when torch is loaded, hence the fresh start.
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.compare", *sys.argv[1:]])
    main()
