"""Repositories on the Hugging Face Hub, downloaded file by file; all that can go wrong is one clear error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .folder import CONFIG, PIPELINE, SETTINGS, WEIGHTS, WeightsError, pipeline_hint, read_config


class Where(NamedTuple):
    """Where on the Hub or in a folder, as in ``huggingface_hub``."""

    revision: str | None = None
    subfolder: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    local_files_only: bool = False


ANYWHERE = Where()


def download(repository: str, where: Where, known: str) -> Path:
    """The folder in the cache that has the weights of ``repository`` and what belongs to them.

    Args:
        known: what can be loaded without a network, for the error.
    """
    from huggingface_hub import hf_hub_download

    def get(file: str) -> Path:
        path = hf_hub_download(
            repository,
            file,
            revision=where.revision,
            subfolder=where.subfolder,
            cache_dir=where.cache_dir,
            token=where.token,
            local_files_only=where.local_files_only,
            library_name="idaa_transforms",
        )
        return Path(path)

    said = f"{repository!r}" + (f" at revision {where.revision!r}" if where.revision else "")
    with _one_error(said, CONFIG, known):
        config = _try(get, CONFIG)
        if config is None:
            pipeline = _try(get, PIPELINE)
            hint = pipeline_hint(pipeline.parent) if pipeline else ""
            raise WeightsError(f"{said} has no {CONFIG}{hint or ': it was not saved by save_pretrained'}")
    if "_class_name" not in read_config(config):
        with _one_error(said, WEIGHTS, known):
            get(WEIGHTS)
        return config.parent
    with _one_error(said, "weights of diffusers", known):
        _get_diffusers(get, said)
        _try(get, SETTINGS)
    return config.parent


def _get_diffusers(get: Callable[[str], Path], said: str) -> None:
    from ..autoencoders.diffusers import FORMS, PICKLED, shards

    for name, _ in FORMS:
        if (file := _try(get, name)) is not None:
            for shard in shards(file):
                get(shard)
            return
    pickled = next((name for name in PICKLED if _try(get, name)), None)
    if pickled:
        raise WeightsError(
            f"{said} has its weights as a pickle only ({pickled}), which can run code and is not read here; save them "
            "as safetensors: diffusers' from_pretrained, then save_pretrained"
        )
    raise WeightsError(f"{said} has none of {[name for name, _ in FORMS]}")


def _try(get: Callable[[str], Path], file: str) -> Path | None:
    """None where the repository has no such ``file``."""
    from huggingface_hub import errors

    try:
        return get(file)
    except errors.LocalEntryNotFoundError:
        if file == CONFIG:  # neither cached nor within reach
            raise
        return None
    except errors.EntryNotFoundError:
        return None


@contextmanager
def _one_error(said: str, file: str, known: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except WeightsError:
        raise
    except errors.GatedRepoError as error:
        raise WeightsError(f"{said} is gated; ask for access on its page, then `hf auth login` or token=") from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"the Hub has no repository {said}, or it is private: check the spelling, or log in (`hf auth login`)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"the Hub has no {said}; leave revision= out for its main branch") from error
    except errors.LocalEntryNotFoundError as error:
        raise WeightsError(
            f"{said} is not in the cache, and the Hub was not reached (no network, "
            f"HF_HUB_OFFLINE or local_files_only); connect once, or use what needs no network: {known}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise WeightsError(f"{said} has no {file}: it was not saved by save_pretrained of this library") from error
    except Exception as error:  # the client passes on whatever its HTTP library raises
        raise WeightsError(f"downloading {file} of {said} failed: {' '.join(str(error).split())}") from error
