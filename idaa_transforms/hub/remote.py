"""Download weights from the Hugging Face Hub, with one clear error if that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, Unpack

from .folder import CONFIG, PIPELINE, SETTINGS, WEIGHTS, WeightsError, pipeline_hint, read_config


class HubOptions(TypedDict, total=False):
    """Keyword arguments of ``huggingface_hub``'s downloads. ``subfolder`` holds for local folders too."""

    revision: str | None
    subfolder: str | None
    cache_dir: str | Path | None
    token: str | bool | None
    local_files_only: bool


def download(repository: str, available: str, **options: Unpack[HubOptions]) -> Path:
    """The folder in the cache that has the config and the weights of ``repository``.

    Args:
        available: what can be loaded without a network, for the error.

    Raises:
        WeightsError: with what is wrong and what to do about it.
    """
    from huggingface_hub import errors, hf_hub_download

    revision = options.get("revision")
    place = f"{repository!r}" + (f" at revision {revision!r}" if revision else "")

    def get(file: str) -> Path:
        try:
            return Path(hf_hub_download(repository, file, library_name="idaa_transforms", **options))
        except Exception as error:  # the client passes on whatever its HTTP library raises
            raise WeightsError(_explain(error, place, file, available)) from error

    def get_any(file: str) -> Path | None:
        """None where the repository, or the cache without a network, has no such file."""
        try:
            return get(file)
        except WeightsError as error:
            if isinstance(error.__cause__, errors.EntryNotFoundError):
                return None
            raise

    try:
        config = get(CONFIG)
    except WeightsError as error:
        if not isinstance(error.__cause__, errors.LocalEntryNotFoundError) and (pipeline := get_any(PIPELINE)):
            raise WeightsError(f"{place} has no {CONFIG}{pipeline_hint(pipeline.parent)}") from error
        raise
    if "_class_name" in read_config(config):
        _get_diffusers(get, get_any, place)
        get_any(SETTINGS)
    else:
        get(WEIGHTS)
    return config.parent


def _explain(error: Exception, place: str, file: str, available: str) -> str:
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return f"{place} is gated; ask for access on its page, then `hf auth login` or token="
        case errors.RepositoryNotFoundError():
            return (
                f"the Hub has no repository {place}, or it is private: check the spelling, or log in (`hf auth login`)"
            )
        case errors.RevisionNotFoundError():
            return f"the Hub has no {place}; leave revision= out for its main branch"
        case errors.LocalEntryNotFoundError():
            return (
                f"{place} is not in the cache, and the Hub was not reached (no network, HF_HUB_OFFLINE or "
                f"local_files_only); connect once, or use what needs no network. {available}"
            )
        case errors.EntryNotFoundError():
            return f"{place} has no {file}: it was not saved by save_pretrained"
    return f"downloading {file} of {place} failed: {' '.join(str(error).split())}"


def _get_diffusers(get: Callable[[str], Path], get_any: Callable[[str], Path | None], place: str) -> None:
    from ..autoencoders.diffusers import FORMS, PICKLED, pickled, shards

    for name, _ in FORMS:
        if (file := get_any(name)) is not None:
            try:
                names = shards(file)
            except ValueError as error:
                raise WeightsError(f"{place}: {error}") from error
            for shard in names:
                get(shard)
            return
    if name := next((name for name in PICKLED if get_any(name)), ""):
        raise WeightsError(f"{place} {pickled(name)}")
    raise WeightsError(f"{place} has none of {', '.join(name for name, _ in FORMS)}")
