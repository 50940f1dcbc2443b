"""Publish a whole folder of weights on the Hugging Face Hub in one commit."""

from __future__ import annotations

import os
from pathlib import Path

from .folder import CONFIG, SETTINGS, WEIGHTS, WeightsError
from .registry import load

CARD = ("README.md", "samples.png")


def push(folder: str | os.PathLike[str], repository: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a folder of weights to ``org/name`` on the Hub, which is made if need be; returns the commit's address.

    The folder is loaded first, so nothing is published that would not load. All files are one commit. If that fails, a
    repository that was made for it is removed again.

    Raises:
        WeightsError: with what is wrong and, should an empty repository be left, its name.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    from ..autoencoders.diffusers import stored

    folder = Path(folder).expanduser()
    load(folder)
    weights = [WEIGHTS] if (folder / WEIGHTS).is_file() else stored(folder)[0]
    files = [folder / name for name in (CONFIG, SETTINGS, *weights, *CARD)]
    operations = [CommitOperationAdd(file.name, file) for file in files if file.exists()]
    api = HfApi(token=token, library_name="idaa_transforms")
    made, left = False, ""
    try:
        try:
            api.create_repo(repository, private=private)
            made = True
        except errors.HfHubHTTPError as error:
            if error.response is None or error.response.status_code != 409:  # 409: it exists already
                raise
        commit = api.create_commit(repository, operations, commit_message="Upload weights with idaa_transforms")
    except (Exception, KeyboardInterrupt) as error:  # the client passes on whatever its HTTP library raises
        if made:
            try:
                api.delete_repo(repository, missing_ok=True)
            except Exception:
                left = f" The new repository could not be removed again and is empty: delete {repository} on its page."
        if isinstance(error, KeyboardInterrupt):
            raise
        refused = isinstance(error, errors.HfHubHTTPError | errors.LocalTokenNotFoundError)
        advice = (
            "Log in with a token that may write (`hf auth login`), and check the spelling of the organisation"
            if refused
            else "Nothing was published; try again when the Hub can be reached"
        )
        raise WeightsError(
            f"the Hub did not take {repository!r}: {' '.join(str(error).split()).rstrip('.')}. {advice}.{left}"
        ) from error
    return str(commit.commit_url)
