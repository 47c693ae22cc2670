"""A training from start to end: a generator that tells how far it is and keeps the best so far.

May touch torch, the sets and the checkpoints.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from whylens.core.datasets.dataset import Dataset, SplitName
from whylens.core.errors import BadInput, NeedsNotMet
from whylens.core.inputs.preprocess import normalize
from whylens.core.models.checkpoints import MANIFEST, read_weights
from whylens.core.progress import map_progress
from whylens.core.train import head, state
from whylens.core.train import input_range as feeding
from whylens.core.train.augment import views
from whylens.core.train.checkpointing import EVALUATED, evaluated, keep
from whylens.core.train.evaluate import examined
from whylens.core.train.network import Chance, network_of
from whylens.core.train.optimise import (
    averaged,
    class_weights,
    learn,
    optimiser_of,
    schedule,
    size_at,
)
from whylens.core.train.pictures import Frames, detail_of, gathered, stored_spec
from whylens.core.train.preflight import admitted, prepared, untested
from whylens.core.train.progress import Step
from whylens.core.train.recipe import Recipe
from whylens.core.train.whiten import whiten

_EVERY = 0.2  # seconds between two signs of life


def train(dataset: Dataset, recipe: Recipe, out: Path, *, resume: bool = False) -> Iterator[Step]:
    """Train a network and yield how far it is; the last step has fraction 1.

    After every epoch `out` holds the best network so far as a checkpoint, and what is needed to
    go on. Closing the generator, or an end of the process at any moment, loses the epoch begun.

    Args:
        dataset: What to learn.
        recipe: How.
        out: The checkpoint's folder; its name is the model's.
        resume: Go on with the training that is in `out`, if there is one.

    Raises:
        BadInput: The folder is taken, or the set, the recipe and what is there do not fit.
        BadArtifact: The weights to start from, or the files to go on with, are damaged.
        UnknownName: There is no such backbone.
    """
    log = admitted(dataset, recipe, out, resume=resume)
    threads = torch.get_num_threads()
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    try:
        yield from _Training(dataset, recipe, out, log).steps()
    finally:
        torch.set_num_threads(threads)


class _Diverged(Exception):
    def __init__(self, epoch: int) -> None:
        super().__init__(f"Training left all bounds in epoch {epoch}: its loss is no number.")


class _Training:
    """One training's state, while it runs."""

    def __init__(self, dataset: Dataset, recipe: Recipe, out: Path, log: state.Log | None) -> None:
        self.dataset, self.recipe, self.out = dataset, recipe, out
        self.chance = Chance(recipe.seed)
        self.network = network_of(recipe, len(dataset.labels), self.chance)
        self.device = torch.device(recipe.device)
        self.average: dict[str, Tensor] | None = None
        self.before = log.seconds if log else 0.0
        self.started = time.monotonic()
        self.log = log or state.Log(
            recipe=recipe.model_dump(mode="json"),
            dataset=dataset.name,
            digest=dataset.digest,
            start=self.network.start,
            notes=(*dataset.notes, *self.network.notes, *untested(dataset)),
            step=0,
            epochs=(),
            best=-1,
            seconds=0.0,
        )
        self.resumed = bool(self.log.epochs)
        # From here on the folder is known as this training's, whenever the process may end.
        if not self.resumed:
            prepared(out)
            state.save_state(out, self.log, {})
        # The share of the whole at which each stage ends, roughly as long as it takes.
        has_head, has_epochs = recipe.mode != "full", recipe.mode != "head"
        self.decoded = 0.05
        self.headed = self.decoded + (0.05 if has_epochs else 0.85) * has_head

    def steps(self) -> Generator[Step, None, None]:
        self.labels = {split: self._labels(split) for split in ("train", "val")}
        self.weights = class_weights(
            self.labels["train"].tolist(), len(self.dataset.labels), balance=self.recipe.balance
        )
        yield from self._decode()
        if feeding.is_open(self.recipe, self.network):
            yield from self._feed()
        if self.recipe.whiten and not self.resumed:
            whiten(self.network, self.train, self.recipe)
        if self.recipe.mode != "full" and not self.log.epochs:
            yield from self._head()
        more: tuple[str, ...] = ()
        if self.recipe.mode != "head":
            try:
                yield from self._epochs()
            except _Diverged as exc:
                if self.log.best < 0:
                    raise BadInput(f"{exc} Choose a lower --lr.") from exc
                more = (f"{exc} The best before is kept; choose a lower --lr.",)
        count = len(self.log.epochs)
        yield from map_progress(
            examined(self.dataset, self.out, more=more),
            lambda share: Step(0.97 + 0.029 * share, "examining the best", None, count),
        )
        yield Step(1.0, "done", 0.0, count, self._figures())

    def _labels(self, split: SplitName) -> Tensor:
        return torch.tensor([self.dataset.items[i].label for i in self.dataset.of(split)])

    def _figures(self) -> dict[str, float]:
        last = self.log.epochs[-1]
        best = next((e for e in self.log.epochs if e.epoch == self.log.best), last)
        figures = {"val_accuracy": last.val_accuracy, "val_loss": last.val_loss}
        return {**figures, "best_accuracy": best.val_accuracy, "best_epoch": float(best.epoch)}

    def _decode(self) -> Generator[Step, None, None]:
        spec, budget = self.network.spec, self.recipe.memory
        ours, theirs = self.dataset.of("train"), self.dataset.of("val")
        kept = stored_spec(self.dataset, ours, spec)
        # A photo finer than any that it learns from would be strange to it.
        spec = spec.model_copy(update={"detail": detail_of(kept, spec)})
        self.network = replace(self.network, spec=spec)
        total = len(ours) + len(theirs)

        def preparing(share: float, done: int, more: int) -> Step:
            return Step(self.decoded * (done + share * more) / total, "preparing pictures")

        self.train = yield from map_progress(
            gathered(self.dataset, ours, kept, budget=budget),
            lambda share: preparing(share, 0, len(ours)),
        )
        used = 0 if self.train.kept is None else self.train.kept.nbytes
        small = kept.size[0] * kept.size[1] <= spec.size[0] * spec.size[1]
        self.val = yield from map_progress(
            gathered(self.dataset, theirs, kept if small else spec, budget=budget - used),
            lambda share: preparing(share, len(ours), len(theirs)),
        )

    def _feed(self) -> Generator[Step, None, None]:
        before = len(self.network.notes)
        work = feeding.best_fed(
            self.network, self.train, self.labels["train"], len(self.dataset.labels)
        )
        try:
            self.network = yield from map_progress(
                work, lambda share: Step(self.decoded, f"trying ways to feed it: {share:.0%}")
            )
        except NeedsNotMet:
            return  # no features to judge by
        if not self.resumed:
            self._note(*self.network.notes[before:])

    def _note(self, *notes: str) -> None:
        self.log = self.log.model_copy(update={"notes": (*self.log.notes, *notes)})

    def _head(self) -> Generator[Step, None, None]:
        network, recipe = self.network, self.recipe
        begun = time.monotonic()

        def step(said: str, start: float, end: float) -> Callable[[float], Step]:
            def told(share: float) -> Step:
                done = start + (end - start) * share
                left = (time.monotonic() - begun) * (1 / done - 1)
                fraction = self.decoded + (self.headed - self.decoded) * done
                return Step(fraction, said, left if recipe.mode == "head" else None)

            return told

        def features(
            frames: Frames, start: float, end: float, *, mirrored: bool
        ) -> Generator[Step, None, Tensor]:
            work = head.features(network, frames, batch=EVALUATED, mirrored=mirrored)
            return (yield from map_progress(work, step("computing features", start, end)))

        try:
            ours = yield from features(self.train, 0.0, 0.6, mirrored=recipe.flip)
            theirs = yield from features(self.val, 0.6, 0.75, mirrored=False)
        except NeedsNotMet as exc:
            if recipe.mode == "head":
                raise
            self._note(str(exc))
            return
        labels = self.labels["train"].repeat(1 + recipe.flip)
        work = head.fit((ours, labels), (theirs, self.labels["val"]), self.weights)
        solution = yield from map_progress(work, step("fitting the last layer", 0.75, 0.9))
        head.put(network, solution, self.train, batch=EVALUATED)
        yield from self._ended(0, None, {}, self.headed)

    def _optimiser(self) -> torch.optim.Optimizer:
        fitted = any(epoch.epoch == 0 for epoch in self.log.epochs)
        return optimiser_of(self.network, self.recipe, head_fitted=fitted)

    def _restore(self, optimiser: torch.optim.Optimizer | None) -> None:
        tensors = read_weights(self.out / state.TRAINING, sha256=None)
        self.network.module.load_state_dict(state.part(tensors, "weights"))
        if optimiser is not None:
            state.restore_moments(optimiser, tensors)
        average = state.part(tensors, "average")
        self.average = {k: v.to(self.device) for k, v in average.items()} or None
        self.chance.own.set_state(tensors["chance.own"])
        self.chance.libraries = tensors["chance.libraries"]
        if not (self.out / MANIFEST).exists():
            # The process ended between the old best network and a better one.
            self.log = self.log.model_copy(update={"best": -1})

    def _epochs(self) -> Generator[Step, None, None]:
        recipe, network = self.recipe, self.network
        optimiser = self._optimiser()
        if self.resumed:
            self._restore(optimiser)
        parts = -(-len(self.train.indices) // recipe.batch)
        total = parts * recipe.epochs
        done = sum(epoch.epoch > 0 for epoch in self.log.epochs)
        begun, first = time.monotonic(), done * parts
        for epoch in range(done + 1, recipe.epochs + 1):
            order = torch.randperm(len(self.train.indices), generator=self.chance.own)
            losses: list[float] = []
            told = 0.0
            # Parts of one size but for one picture: batch norms cannot learn from a single one.
            for places in torch.tensor_split(order, parts):
                step = self.log.step + len(losses)
                losses.append(
                    self._learn(optimiser, places, step / total, schedule(step, total, recipe))
                )
                if not math.isfinite(losses[-1]):
                    raise _Diverged(epoch)
                if recipe.ema is not None:
                    self.average = averaged(self.average, network.module, recipe.ema, step)
                share = (step + 1) / total
                if time.monotonic() - told > _EVERY:
                    told = time.monotonic()
                    left = (told - begun) * (total - step - 1) / (step + 1 - first)
                    said = f"epoch {epoch} of {recipe.epochs}"
                    figures = {"loss": float(np.mean(losses))}
                    yield Step(self._share(share), said, left, epoch, figures)
            self.log = self.log.model_copy(update={"step": self.log.step + len(losses)})
            moments = state.moments(optimiser)
            yield from self._ended(epoch, float(np.mean(losses)), moments, self._share(share))

    def _share(self, share: float) -> float:
        return self.headed + (0.97 - self.headed) * share

    def _learn(
        self, optimiser: torch.optim.Optimizer, places: Tensor, done: float, rate: float
    ) -> float:
        spec = self.network.spec
        batch = torch.from_numpy(self.train.batch(places.tolist())).to(self.device)
        # Pictures kept as they are were never cut; those kept larger were, to `1 / crop`.
        seen = views(
            batch.permute(0, 3, 1, 2),
            size_at(done, (spec.size[0], spec.size[1]), self.recipe),
            self.recipe,
            crop=spec.crop,
            generator=self.chance.own,
        )
        self.network.module.train()
        with self.chance.lent():
            return learn(
                self.network,
                optimiser,
                normalize(seen, spec),
                self.labels["train"][places].to(self.device),
                self.weights.to(self.device),
                self.recipe,
                rate,
            )

    def _ended(
        self, epoch: int, loss: float | None, moments: dict[str, Tensor], share: float
    ) -> Generator[Step, None, None]:
        network = self.network
        if self.average is not None:
            module = copy.deepcopy(self.network.module)
            module.load_state_dict(self.average)
            network = replace(network, module=module)
        figures = evaluated(network, self.val, self.labels["val"])
        if not math.isfinite(figures["val_loss"]):
            raise _Diverged(epoch)
        line = state.Epoch(epoch=epoch, loss=loss, seconds=self._seconds(), **figures)
        best = next((e for e in self.log.epochs if e.epoch == self.log.best), None)
        if best is None or line.merit > best.merit:
            keep(self.out, network, self.recipe, self.dataset, line.val_accuracy)
            best = line
        self.log = self.log.model_copy(
            update={
                "epochs": (*self.log.epochs, line),
                "best": best.epoch,
                "seconds": self._seconds(),
            }
        )
        tensors = {
            **{f"weights.{k}": v for k, v in self.network.module.state_dict().items()},
            **{f"average.{k}": v for k, v in (self.average or {}).items()},
            **moments,
            "chance.own": self.chance.own.get_state(),
            "chance.libraries": self.chance.libraries,
        }
        state.save_state(self.out, self.log, tensors)
        said = f"epoch {epoch}: {line.val_accuracy:.1%} of validation"
        yield Step(share, said, None, epoch, self._figures())

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.started
