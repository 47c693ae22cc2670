"""A training from start to end: a generator that tells how far it is and keeps the best so far."""

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
from whylens.core.errors import BadInput, NeedsNotMet, quote
from whylens.core.inputs.preprocess import normalize
from whylens.core.models.checkpoints import MANIFEST, checkpoint_folders, read_weights
from whylens.core.models.model_names import (
    check_folder_name,
    parse_model_name,
    timm_architectures,
    timm_names,
)
from whylens.core.progress import TrainingProgress, map_progress
from whylens.core.storage.files import folder_lock, remove_unfinished
from whylens.core.train import head
from whylens.core.train.augment import random_views
from whylens.core.train.checkpointing import (
    EVALUATED,
    TRAINING,
    Epoch,
    Log,
    evaluate,
    moments,
    read_log,
    restore_moments,
    save_best,
    save_state,
    with_prefix,
)
from whylens.core.train.data_init import guess_input_range, input_range_unknown, whiten
from whylens.core.train.evaluate import write_report
from whylens.core.train.network import RandomState, build_network
from whylens.core.train.optimise import (
    class_weights,
    make_optimiser,
    schedule,
    size_at,
    train_step,
    update_average,
)
from whylens.core.train.pictures import Frames, cache_images, cache_spec, visible_detail
from whylens.core.train.recipe import Recipe
from whylens.core.words import percent

_EVERY = 0.2  # seconds between two reports of progress
# Shares of the whole at which stages end, roughly as long as they take.
PROGRESS_DECODED, PROGRESS_EPOCHS = 0.05, 0.97
# A loss so many times that of guessing, over so many batches, comes down no more to much use.
EXPLODED, LAST_BATCHES = 20.0, 8
REMEDY = "Start from a trained network, or choose a lower learning rate (--lr)."
PROGRESS_HEAD = {"full": 0.05, "head-then-full": 0.1, "head": 0.9}  # by the recipe's mode


def train(
    dataset: Dataset, recipe: Recipe, out: Path, *, resume: bool = False
) -> Iterator[TrainingProgress]:
    """Train a network and yield how far it is; the last step has fraction 1.

    After every epoch `out` holds the best network so far as a checkpoint, and what is needed to
    go on. Closing the generator, or an end of the process at any moment, loses the epoch begun.

    Args:
        resume: Go on with the training that is in `out`, if there is one.

    Raises:
        BadInput: The folder is taken, or the set, the recipe and what is there do not fit.
        BadArtifact: The weights to start from, or the files to go on with, are damaged.
        UnknownName: There is no such backbone.
    """
    check_can_start(dataset, recipe, out, resume=resume)
    is_new = not out.exists()
    make_folder(out)
    threads = torch.get_num_threads()
    with folder_lock(out) as is_alone:
        if not is_alone:
            raise BadInput(
                f"Another training writes into {out} at this moment. Wait for its end, or choose "
                "another --out."
            )
        log = check_can_start(dataset, recipe, out, resume=resume)
        remove_unfinished(out)
        if recipe.threads is not None:
            torch.set_num_threads(recipe.threads)
        try:
            yield from _Training(dataset, recipe, out, log).steps()
        finally:
            torch.set_num_threads(threads)
            if is_new and not any(out.iterdir()):
                out.rmdir()


class _Diverged(Exception):
    def __init__(self, epoch: int, loss: float, guessing: float) -> None:
        size = f"{loss:,.0f}" if math.isfinite(loss) else "no number"
        super().__init__(
            f"Training left all bounds in epoch {epoch}: its loss is {size}, where guessing gives "
            f"{guessing:.2f}."
        )


class _Training:
    """One training's state, while it runs."""

    def __init__(self, dataset: Dataset, recipe: Recipe, out: Path, log: Log | None) -> None:
        self.dataset, self.recipe, self.out = dataset, recipe, out
        self.random = RandomState(recipe.seed)
        self.network = build_network(recipe, len(dataset.labels), self.random)
        self.device = torch.device(recipe.device)
        self.average: dict[str, Tensor] | None = None
        self.before = log.seconds if log else 0.0
        self.started = time.monotonic()
        self.log = log or Log(
            recipe=recipe.model_dump(mode="json"),
            dataset=dataset.name,
            digest=dataset.digest,
            start=self.network.start,
            notes=(*dataset.notes, *self.network.notes, *missing_test_note(dataset)),
            step=0,
            epochs=(),
            best=-1,
            seconds=0.0,
        )
        self.resumed = bool(self.log.epochs)
        # From here on the folder is known as this training's, whenever the process may end.
        if not self.resumed:
            save_state(out, self.log, {})
        self.head_end = PROGRESS_HEAD[recipe.mode]

    def steps(self) -> Generator[TrainingProgress, None, None]:
        self.labels = {split: self._labels(split) for split in ("train", "val")}
        self.weights = class_weights(
            self.labels["train"].tolist(), len(self.dataset.labels), balance=self.recipe.balance
        )
        yield from self._cache_pictures()
        if input_range_unknown(self.recipe, self.network):
            yield from self._guess_input_range()
        if self.recipe.whiten and not self.resumed:
            whiten(self.network, self.train, self.recipe)
        if self.recipe.mode != "full" and not self.log.epochs:
            yield from self._train_head()
        more: tuple[str, ...] = ()
        if self.recipe.mode != "head":
            try:
                yield from self._run_epochs()
            except _Diverged as exc:
                if self.log.best < 0:
                    raise BadInput(f"{exc} {REMEDY}") from exc
                more = (f"{exc} The best before is kept. {REMEDY}",)
        count = len(self.log.epochs)
        yield from map_progress(
            write_report(self.dataset, self.out, more=more),
            lambda share: TrainingProgress(
                PROGRESS_EPOCHS + 0.029 * share, "examining the best", None, count
            ),
        )
        yield TrainingProgress(1.0, "done", 0.0, count, self._figures())

    def _labels(self, split: SplitName) -> Tensor:
        return torch.tensor([self.dataset.items[i].label for i in self.dataset.of(split)])

    def _figures(self) -> dict[str, float]:
        last = self.log.epochs[-1]
        best = next((e for e in self.log.epochs if e.epoch == self.log.best), last)
        figures = {"val_accuracy": last.val_accuracy, "val_loss": last.val_loss}
        return {**figures, "best_accuracy": best.val_accuracy, "best_epoch": float(best.epoch)}

    def _cache_pictures(self) -> Generator[TrainingProgress, None, None]:
        input_spec, budget = self.network.input_spec, self.recipe.memory
        train_idx, val_idx = self.dataset.of("train"), self.dataset.of("val")
        cached = cache_spec(self.dataset, train_idx, input_spec)
        # A photo finer than any that it learns from would be strange to it.
        input_spec = input_spec.model_copy(update={"detail": visible_detail(cached, input_spec)})
        self.network = replace(self.network, input_spec=input_spec)
        total = len(train_idx) + len(val_idx)

        def preparing(share: float, pictures_read: int, more: int) -> TrainingProgress:
            return TrainingProgress(
                PROGRESS_DECODED * (pictures_read + share * more) / total, "preparing pictures"
            )

        self.train = yield from map_progress(
            cache_images(self.dataset, train_idx, cached, budget=budget),
            lambda share: preparing(share, 0, len(train_idx)),
        )
        cache_bytes = 0 if self.train.cached is None else self.train.cached.nbytes
        small = cached.size[0] * cached.size[1] <= input_spec.size[0] * input_spec.size[1]
        self.val = yield from map_progress(
            cache_images(
                self.dataset, val_idx, cached if small else input_spec, budget=budget - cache_bytes
            ),
            lambda share: preparing(share, len(train_idx), len(val_idx)),
        )

    def _guess_input_range(self) -> Generator[TrainingProgress, None, None]:
        before = len(self.network.notes)
        work = guess_input_range(
            self.network, self.train, self.labels["train"], len(self.dataset.labels)
        )
        try:
            self.network = yield from map_progress(
                work,
                lambda share: TrainingProgress(
                    PROGRESS_DECODED, f"trying ways to feed it: {percent(share)}"
                ),
            )
        except NeedsNotMet:
            return  # no features to judge by
        if not self.resumed:
            self._note(*self.network.notes[before:])

    def _note(self, *notes: str) -> None:
        self.log = self.log.model_copy(update={"notes": (*self.log.notes, *notes)})

    def _train_head(self) -> Generator[TrainingProgress, None, None]:
        network, recipe = self.network, self.recipe
        start_time = time.monotonic()

        def stage(message: str, start: float, end: float) -> Callable[[float], TrainingProgress]:
            def progress(share: float) -> TrainingProgress:
                stage_share = start + (end - start) * share
                seconds = (time.monotonic() - start_time) * (1 / stage_share - 1)
                fraction = PROGRESS_DECODED + (self.head_end - PROGRESS_DECODED) * stage_share
                return TrainingProgress(
                    fraction, message, seconds if recipe.mode == "head" else None
                )

            return progress

        def features(
            frames: Frames, start: float, end: float, *, mirrored: bool
        ) -> Generator[TrainingProgress, None, Tensor]:
            work = head.features(network, frames, batch=EVALUATED, mirrored=mirrored)
            return (yield from map_progress(work, stage("computing features", start, end)))

        try:
            x = yield from features(self.train, 0.0, 0.6, mirrored=recipe.flip)
            val_x = yield from features(self.val, 0.6, 0.75, mirrored=False)
        except NeedsNotMet as exc:
            if recipe.mode == "head":
                raise
            self._note(str(exc))
            return
        labels = self.labels["train"].repeat(1 + recipe.flip)
        work = head.fit((x, labels), (val_x, self.labels["val"]), self.weights)
        solution = yield from map_progress(work, stage("fitting the last layer", 0.75, 0.9))
        head.set_last_layer(network, solution, self.train, batch=EVALUATED)
        yield from self._end_epoch(0, None, {}, self.head_end)

    def _optimiser(self) -> torch.optim.Optimizer:
        head_fitted = any(epoch.epoch == 0 for epoch in self.log.epochs)
        return make_optimiser(self.network, self.recipe, head_fitted=head_fitted)

    def _restore(self, optimiser: torch.optim.Optimizer | None) -> None:
        tensors = read_weights(self.out / TRAINING, sha256=None)
        self.network.module.load_state_dict(with_prefix(tensors, "weights"))
        if optimiser is not None:
            restore_moments(optimiser, tensors)
        average = with_prefix(tensors, "average")
        self.average = {k: v.to(self.device) for k, v in average.items()} or None
        self.random.generator.set_state(tensors["random.generator"])
        self.random.global_state = tensors["random.global"]

    def _run_epochs(self) -> Generator[TrainingProgress, None, None]:
        recipe, network = self.recipe, self.network
        optimiser = self._optimiser()
        if self.resumed:
            self._restore(optimiser)
        batches = -(-len(self.train.indices) // recipe.batch)
        total = batches * recipe.epochs
        epochs_done = sum(epoch.epoch > 0 for epoch in self.log.epochs)
        start_time, first = time.monotonic(), epochs_done * batches
        for epoch in range(epochs_done + 1, recipe.epochs + 1):
            order = torch.randperm(len(self.train.indices), generator=self.random.generator)
            losses: list[float] = []
            reported = 0.0
            # Batches of one size but for one picture: batch norms cannot learn from a single one.
            for places in torch.tensor_split(order, batches):
                step = self.log.step + len(losses)
                losses.append(
                    self._train_step(optimiser, places, step / total, schedule(step, total, recipe))
                )
                self._check_loss(losses, epoch)
                if recipe.ema is not None:
                    self.average = update_average(self.average, network.module, recipe.ema, step)
                share = (step + 1) / total
                if time.monotonic() - reported > _EVERY:
                    reported = time.monotonic()
                    seconds = (reported - start_time) * (total - step - 1) / (step + 1 - first)
                    message = f"epoch {epoch} of {recipe.epochs}"
                    figures = {"loss": float(np.mean(losses))}
                    yield TrainingProgress(self._share(share), message, seconds, epoch, figures)
            self.log = self.log.model_copy(update={"step": self.log.step + len(losses)})
            yield from self._end_epoch(
                epoch, float(np.mean(losses)), moments(optimiser), self._share(share)
            )

    def _check_loss(self, losses: list[float], epoch: int) -> None:
        guessing = math.log(max(len(self.dataset.labels), 2))
        recent = losses[-LAST_BATCHES:]
        mean = float(np.mean(recent))
        exploded = len(recent) == LAST_BATCHES and mean > EXPLODED * guessing
        if exploded or not math.isfinite(losses[-1]):
            raise _Diverged(epoch, losses[-1], guessing)

    def _share(self, share: float) -> float:
        return self.head_end + (PROGRESS_EPOCHS - self.head_end) * share

    def _train_step(
        self, optimiser: torch.optim.Optimizer, places: Tensor, progress: float, rate: float
    ) -> float:
        input_spec = self.network.input_spec
        batch = torch.from_numpy(self.train.batch(places.tolist())).to(self.device)
        # Pictures cached as they are were never cut; those cached larger were, to `1 / crop`.
        views = random_views(
            batch.permute(0, 3, 1, 2),
            size_at(progress, (input_spec.size[0], input_spec.size[1]), self.recipe),
            self.recipe,
            crop=input_spec.crop,
            generator=self.random.generator,
        )
        self.network.module.train()
        with self.random.as_global():
            return train_step(
                self.network,
                optimiser,
                normalize(views, input_spec),
                self.labels["train"][places].to(self.device),
                self.weights.to(self.device),
                self.recipe,
                rate,
            )

    def _end_epoch(
        self, epoch: int, loss: float | None, tensors: dict[str, Tensor], share: float
    ) -> Generator[TrainingProgress, None, None]:
        network = self.network
        if self.average is not None:
            module = copy.deepcopy(self.network.module)
            module.load_state_dict(self.average)
            network = replace(network, module=module)
        figures = evaluate(network, self.val, self.labels["val"])
        # Finite is all that can be asked: early batch norms make huge losses of good networks.
        self._check_loss([figures["val_loss"]], epoch)
        line = Epoch(epoch=epoch, loss=loss, seconds=self._seconds(), **figures)
        best = next((e for e in self.log.epochs if e.epoch == self.log.best), None)
        if best is None or line.sort_key > best.sort_key:
            save_best(self.out, network, self.recipe, self.dataset, line.val_accuracy)
            best = line
        self.log = self.log.model_copy(
            update={
                "epochs": (*self.log.epochs, line),
                "best": best.epoch,
                "seconds": self._seconds(),
            }
        )
        state = {
            **{f"weights.{k}": v for k, v in self.network.module.state_dict().items()},
            **{f"average.{k}": v for k, v in (self.average or {}).items()},
            **tensors,
            "random.generator": self.random.generator.get_state(),
            "random.global": self.random.global_state,
        }
        save_state(self.out, self.log, state)
        message = f"epoch {epoch}: {percent(line.val_accuracy, 1)} of validation"
        yield TrainingProgress(share, message, None, epoch, self._figures())

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.started


def check_can_start(dataset: Dataset, recipe: Recipe, out: Path, *, resume: bool) -> Log | None:
    """Return the log of the training to go on with, or None where one begins.

    Raises:
        BadInput: The folder is taken, or the set, the recipe and what is there do not fit.
        UnknownName: There is no such backbone.
    """
    check_folder_name(out.name)
    _check_free_name(out)
    parse_model_name(recipe.backbone)
    for split in ("train", "val"):
        if not dataset.of(split):
            raise BadInput(f"{dataset.name} has no {split} split; add pictures to it.")
    log = read_log(out) if out.is_dir() else None
    if not resume:
        if (log is not None and log.epochs) or (out / MANIFEST).exists():
            raise BadInput(
                f"{out} holds a model already. Add --resume to go on with it, or choose another "
                "--out."
            )
        return None
    if log is None:
        if (out / MANIFEST).exists():
            raise BadInput(
                f"{out} holds a model that was not trained here, so there is nothing to go on "
                "with. Choose another --out; --weights can start from it."
            )
        return None
    current = recipe.model_dump(mode="json")
    differing = sorted(key for key in current if current[key] != log.recipe.get(key))
    if differing:
        raise BadInput(
            f"The training in {out} was started with another {', '.join(differing)}. Go on with "
            "the same recipe, or choose another --out."
        )
    if log.digest != dataset.digest:
        raise BadInput(
            f"The training in {out} was started on other pictures than {dataset.name} has now. "
            "Choose another --out."
        )
    return log


def _check_free_name(out: Path) -> None:
    """Raise BadInput where a new model would hide another one, or be hidden by it."""
    namesake = checkpoint_folders().get(out.name)
    hides = namesake is not None and namesake.resolve() != out.resolve()
    if hides or out.name in timm_names() or out.name in timm_architectures():
        raise BadInput(
            f"There is a model called {quote(out.name)} already, and one would hide the other. "
            "Choose another last word of --out."
        )


def missing_test_note(dataset: Dataset) -> tuple[str, ...]:
    """Return the note on a set without a test split, if it is one."""
    if dataset.of("test"):
        return ()
    return (
        "There is no test split. Validation chose the best epoch, so its figures are a little too "
        "good.",
    )


def make_folder(out: Path) -> None:
    """Make a checkpoint's folder; BadInput where it cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BadInput(f"The folder {out} cannot be made: {exc.strerror}.") from exc
