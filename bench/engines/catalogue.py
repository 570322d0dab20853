"""The engines by name, and the file with their options."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from greenprune.bench.engines.engine import Engine, Options, Place
from greenprune.bench.engines.names import ENGINES
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.foreign import shortened
from greenprune.bench.suite.validation import refuse_large_integers, sentences
from pydantic import ValidationError

LARGEST_BYTES = 1_000_000


def make(name: str, config: Path | None, place: Place) -> Engine:
    """The engine called `name`, with the options of the file `config`.

    An engine is a file beside this one with its `EngineOptions` and `make(options, place)`.

    Raises:
        UserError: there is no such engine, what it stands on is not installed, or the file cannot be read, is no TOML or
            says something that the engine does not know.
    """
    engine: Engine = _module(name).make(options_of(name, config), place)
    return engine


def options_of(name: str, config: Path | None) -> Options:
    """What `config` says to the engine called `name`. Raises UserError: as of `make`."""
    model: type[Options] = _module(name).EngineOptions
    return checked(model, {} if config is None else read(config), str(config), name)


def _module(name: str) -> Any:
    if name not in ENGINES:
        raise UserError(f"--engine {name}: is unknown; allowed: {', '.join(ENGINES)}{did_you_mean(name, ENGINES)}")
    return import_module(f"greenprune.bench.engines.{name}")


def read(path: Path) -> dict[str, Any]:
    """What a file of options holds. Raises UserError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise UserError(f"--engine-config {path}: is larger than {LARGEST_BYTES / 1e6:g} MB; allowed: a TOML file")
        said = tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except OSError as e:
        raise UserError(f"--engine-config {path}: cannot be read ({e.strerror or e}); allowed: a TOML file") from None
    except UnicodeDecodeError as e:
        raise UserError(f"--engine-config {path}: is not UTF-8 (byte {e.start}); allowed: a TOML file") from None
    except (ValueError, RecursionError) as e:
        raise UserError(f"--engine-config {path}: not TOML: {shortened(str(e), 300)}") from None
    refuse_large_integers(said, f"--engine-config {path}")
    return said


def checked(model: type[Options], said: Mapping[str, Any], path: str, engine: str) -> Options:
    """`said` as the options of an engine. Raises UserError: a sentence for each key that is unknown or wrong."""
    try:
        return model.model_validate(said)
    except ValidationError as e:
        lines = sentences(e, model.model_json_schema(), said)
        raise UserError("\n".join(f"--engine-config {path}, engine {engine}: {line}" for line in lines)) from None
