"""Sending a Space's folder to the Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from whylens.core.errors import quote
from whylens.ui.space.card import SpaceProblem


def push(folder: Path, repo_id: str, *, private: bool = False, api: HfApi | None = None) -> str:
    """Make the Space mirror the folder, in one commit, and return the commit's address.

    Args:
        repo_id: "owner/name"; created if it does not exist.
        private: Whether a new Space is private.
        api: By default a client with the token that `hf auth login` has stored.

    Raises:
        SpaceProblem: The Hub refuses, or cannot be reached.
    """
    client = api or HfApi()
    try:
        client.create_repo(
            repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True
        )
        commit = client.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            repo_type="space",
            commit_message="Deploy Whylens",
            delete_patterns="*",  # what is no longer part of the Space goes
        )
    except LocalTokenNotFoundError as exc:
        raise SpaceProblem("You are not known to the Hub here. Run `hf auth login` first.") from exc
    except HFValidationError as exc:
        raise SpaceProblem(f"{quote(repo_id)} is no name of a Space; write owner/name.") from exc
    except HfHubHTTPError as exc:
        raise SpaceProblem(f"The Hub refused: {exc}") from exc
    except OSError as exc:  # no route, no name, no answer
        raise SpaceProblem(f"The Hub cannot be reached ({exc}). Try again later.") from exc
    return str(commit.commit_url)
