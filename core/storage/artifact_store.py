"""Where fitted artifacts are found: beside checkpoints for all, in memory for one visitor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whylens.core.errors import NeedsNotMet
from whylens.core.explainer import Explainer
from whylens.core.storage.artifacts import Artifact, is_artifact, read_artifact, write_artifact
from whylens.core.storage.cache import ByteLRU
from whylens.core.storage.memory import memory_for

if TYPE_CHECKING:
    from whylens.core.models.backbone import Backbone

_Key = tuple[str, str, str]


class ArtifactStore:
    """Artifacts by network and method; a visitor's own come before those that all share."""

    def __init__(self, places: Callable[[], list[Path]]) -> None:
        """Make a store.

        Args:
            places: Returns the folders in which checkpoints lie, the project's own first.
        """
        budget = memory_for("own")
        self._places = places
        self._own: ByteLRU[_Key, Artifact] = ByteLRU(budget, lambda a: a.bytes)
        self._shared: ByteLRU[_Key, Artifact] = ByteLRU(budget, lambda _: 1)

    def get(self, explainer: Explainer[Any], backbone: Backbone, visitor: str) -> Artifact:
        """Return what `explainer` was fitted with for this network.

        Args:
            explainer: One whose `artifact_kind` is not empty.
            visitor: A visitor's id, or "" for what all share.

        Raises:
            NeedsNotMet: There is nothing.
            BadArtifact: It is damaged or belongs to other weights.
        """
        key = _key(explainer, backbone, visitor)
        own = self._own.peek(key) if visitor else None
        if own is not None:
            return own
        parents = [place / backbone.name for place in self._places()]
        if backbone.identity.folder is not None:
            parents.insert(0, backbone.identity.folder)
        for parent in parents:
            folder = parent / explainer.name
            if is_artifact(folder):
                return self._shared.get(
                    (str(folder), *key[1:]),
                    lambda folder=folder: read_artifact(  # type: ignore[misc]
                        folder,
                        method=explainer.name,
                        weights=backbone.identity.digest,
                        input_spec=backbone.input_spec,
                    ),
                )
        raise NeedsNotMet(
            f"it rests on {explainer.artifact_kind}, and none was made for {backbone.name} yet. "
            "On its card, under All methods, give labelled pictures of your own. For all: `whylens "
            f"fit {backbone.name} --method {explainer.name} FOLDER`"
        )

    def put_for_visitor(
        self, explainer: Explainer[Any], backbone: Backbone, visitor: str, artifact: Artifact
    ) -> None:
        """Keep an artifact for one visitor."""
        self._own.put(_key(explainer, backbone, visitor), artifact)

    def forget(self, visitor: str) -> None:
        """Drop all that belongs to one visitor."""
        for key in self._own.cached_keys():
            if key[0] == visitor:
                self._own.forget(key)

    def save(self, explainer: Explainer[Any], backbone: Backbone, artifact: Artifact) -> str:
        """Write an artifact where all will find it and return the folder's path."""
        own, *extra = [place / backbone.name for place in self._places()]
        present = [parent for parent in (own, *extra) if parent.is_dir()]
        # Folders that the user named are for what the user makes.
        parent = backbone.identity.folder or (present or extra or [own])[0]
        folder = parent / explainer.name
        write_artifact(
            folder,
            artifact,
            method=explainer.name,
            model=backbone.name,
            weights=backbone.identity.digest,
            input_spec=backbone.input_spec,
        )
        self._shared.forget((str(folder), *_key(explainer, backbone, "")[1:]))
        return str(folder)


def _key(explainer: Explainer[Any], backbone: Backbone, visitor: str) -> _Key:
    return visitor, explainer.name, backbone.identity.digest
