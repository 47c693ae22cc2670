"""What every handler of the page shares: the engine, the store, and errors as messages."""

from __future__ import annotations

import errno
import functools
import inspect
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gradio as gr

from whylens.core.engine import Engine
from whylens.core.errors import CoreError, WeightsUnavailable, WorkStopped
from whylens.core.explanation import ModelCard
from whylens.core.models.checkpoints import (
    checkpoint_folders,
    default_models,
    read_manifest,
)
from whylens.core.models.public_models import check_public_model
from whylens.core.outputs.guide import GuideEntry, Measurements, entries, measurements
from whylens.ui.page.page_store import PageStore

log = logging.getLogger(__name__)

# Lies with the methods that it is about, and so in a wheel as well.
MEASURED = Path(__file__).resolve().parents[2] / "plugins" / "measured.json"
# For events that are not worth a spinner and are no endpoint for scripts.
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
PREDICTED = "predicted"
RUNNER_UP = "runner-up"
PRETRAINED = "resnet18.a1_in1k"
UNTRAINED = "untrained:resnet18"
# Headings of networks that state none.
OWN, SIGNALS = "Your networks", "Signals"
# The heading of what comes along and was drawn here: it stands below all that knows real photos.
GROUND_TRUTH = "Ground truth known"
SUGGESTED = (
    "resnet18.a1_in1k",
    "resnet50.a1_in1k",
    "convnext_tiny.fb_in1k",
    "efficientnet_b0.ra_in1k",
    "mobilenetv3_large_100.ra_in1k",
    "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "deit3_small_patch16_224.fb_in1k",
    "swin_tiny_patch4_window7_224.ms_in1k",
    "densenet121.ra_in1k",
    "regnety_016.tv2_in1k",
)
QUANTITIES = {
    "Score": "logit",
    "Probability": "probability",
    "Difference to another class": "contrast",
}


@dataclass(frozen=True)
class Session:
    """What one running page computes with, and what it keeps between two clicks."""

    engine: Engine
    store: PageStore
    judges: bool = True  # whether maps are tested by themselves, once they are shown

    @cached_property
    def measurements(self) -> Measurements:
        """What was measured of the methods, read once."""
        return measurements(MEASURED)

    @cached_property
    def guide(self) -> tuple[GuideEntry, ...]:
        """Every method with what was measured of it."""
        return entries(self.engine.registry, self.measurements)

    def model_name(self, text: str | None) -> str:
        """Return the model that a visitor named, if a public page may load it.

        Raises:
            CoreError: It is unknown, refused or too large; nothing was loaded.
        """
        return str(check_public_model((text or "").strip(), checkpoint_folders()))

    def fits(self, path: str | None, model: str) -> bool:
        """Return whether a picture is what a model reads, as far as can be told at once.

        Args:
            path: None is what a model for photos still waits for, and never a signal.
        """
        signals = takes_signals(self.engine.card(self.model_name(model)))
        return not signals or bool(path and self.store.has_signal(path))


def takes_signals(card: ModelCard) -> bool:
    """Return whether a model is fed signals and not photos."""
    size = card.input["size"]
    return isinstance(size, list | tuple) and len(size) == 1


def model_choices() -> list[tuple[str, str]]:
    """Return what the drop-down offers, as words and name; local checkpoints by their headings."""
    groups: dict[str, list[str]] = {}
    for name, folder in checkpoint_folders().items():
        try:
            manifest = read_manifest(folder)
        except CoreError:  # said when it is chosen
            groups.setdefault(OWN, []).append(name)
            continue
        kind = SIGNALS if len(manifest.input_size) == 1 else OWN
        groups.setdefault(manifest.group or kind, []).append(name)
    groups |= {"From the Hub": list(SUGGESTED), "Untrained": [UNTRAINED]}
    last = (GROUND_TRUTH, SIGNALS, "From the Hub", "Untrained")
    group_names = sorted(groups, key=lambda group: last.index(group) if group in last else -1)
    return [(f"{group}: {name}", name) for group in group_names for name in groups[group]]


def first_model(engine: Engine) -> tuple[str, str]:
    """Return the model to begin with, loaded, and the banner that it needs.

    The local checkpoint that knows most, of those that are sound; without one a pretrained network
    where its weights can be had; else an untrained one, and the banner says so.
    """
    left_out = []
    for name in (*default_models(), PRETRAINED):
        try:
            engine.card(name)
        except WeightsUnavailable as exc:
            left_out.append(str(exc))
        except CoreError as exc:
            log.warning("%s is left out: %s", name, exc)
            left_out.append(f"{name} is left out: {exc}")
        else:
            return name, " ".join(left_out)
    engine.card(UNTRAINED)
    return UNTRAINED, " ".join(left_out)


def untrained_banner(reason: str = "") -> str:
    """Return what visitors must know about a network with random weights."""
    why = f" {reason}" if reason else ""
    return (
        "This network is UNTRAINED: its predictions mean nothing and its maps only show the "
        f"mechanics.{why}"
    )


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Turn errors into the page's red message: their own words if fit to be shown, else an id."""
    try:
        yield
    except (CoreError, WorkStopped, gr.Error) as exc:
        # The text of Gradio's own error comes in quotes.
        message = exc.message if isinstance(exc, gr.Error) else str(exc)
        raise gr.Error(message, title="That did not work", print_exception=False) from exc
    except Exception as exc:
        number = secrets.token_hex(4)
        log.exception("Error %s", number)
        message = (
            f"Something went wrong on our side (error {number}). Please try again, and report it."
        )
        if isinstance(exc, FileNotFoundError):
            message = "A file of this visit is no longer kept. Give it again."
        elif getattr(exc, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            message = "The server's disk is full. Try again later."
        raise gr.Error(message, title="Unexpected", print_exception=False) from exc


class PlainBlocks(gr.Blocks):  # type: ignore[misc]  # Gradio has no types here
    """Blocks that refuse what no form of theirs can send in a sentence, without a stack trace."""

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Return the values of an event's inputs.

        Raises:
            gr.Error: They do not fit the form.
        """
        try:
            values: list[Any] = await super().preprocess_data(*args, **kwargs)
        except gr.Error as exc:
            exc.print_exception = False
            raise
        except Exception as exc:
            # Files that are no longer there and a full disk have their words; the rest is a value
            # of another kind, a missing one, or a path.
            if isinstance(exc, OSError):
                with errors_as_messages():
                    raise
            log.info("A visitor's values were refused: %s", type(exc).__name__)
            raise gr.Error("What was sent does not fit the form.", print_exception=False) from exc
        return values


def speak_plainly(blocks: gr.Blocks) -> None:
    """Let what any handler of a page raises reach the visitor as a message, never as it is."""
    for function in blocks.fns.values():
        if function.fn is not None:
            function.fn = _in_words(function.fn)


def _in_words(handler: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def messages() -> Iterator[None]:
        try:
            yield
        except gr.Error:
            raise
        except Exception:
            with errors_as_messages():
                raise

    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def later(*args: Any, **kwargs: Any) -> Any:
            with messages():
                return await handler(*args, **kwargs)

        return later

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with messages():
                yield from handler(*args, **kwargs)

        return steps

    @functools.wraps(handler)
    def answer(*args: Any, **kwargs: Any) -> Any:
        with messages():
            return handler(*args, **kwargs)

    return answer


def visitor_id(request: gr.Request | None) -> str:
    """Return the id of whoever asked; scripts without a session share one."""
    return str(getattr(request, "session_hash", None) or "script")
