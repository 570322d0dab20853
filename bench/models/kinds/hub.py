"""Files of the Hugging Face hub: from the user's cache, else downloaded."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from greenprune.bench.data.reference import brief
from greenprune.bench.errors import UserError

REACH_S = 5.0


def hub_file(repository: str, names: Sequence[str], wanted: str) -> Path:
    """The first of `names` that `repository` has.

    Args:
        wanted: what they are of, to begin a sentence with.

    Raises:
        UserError: it is not in the cache and cannot be downloaded.
    """
    import huggingface_hub

    for name in names:
        found = huggingface_hub.try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    last: BaseException | None = None
    try:
        reach(huggingface_hub.constants.ENDPOINT)
        for name in names:
            try:
                return Path(huggingface_hub.hf_hub_download(repository, name))
            except huggingface_hub.errors.EntryNotFoundError as error:
                last = error
    except Exception as error:  # of the network, or there is no such repository
        last = error
    assert last is not None
    raise UserError(
        f"{wanted}: {repository} is not in the cache of the Hugging Face hub and cannot be downloaded ({brief(last)})"
    ) from last


def reach(endpoint: str) -> None:
    """Raise OSError at once where there is no network; the hub's own client tries for a minute."""
    if urllib.request.getproxies():
        return
    place = urllib.parse.urlsplit(endpoint)
    port = place.port or (443 if place.scheme == "https" else 80)
    socket.create_connection((place.hostname or "", port), timeout=REACH_S).close()
