"""What a command does, in units of its own, for joules per unit: given beforehand or written by the command."""

from __future__ import annotations

import errno
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from greenprune.bench.energy.units import checked_counts
from greenprune.bench.energy.window import Window
from greenprune.bench.errors import UserError


def given_units(texts: Sequence[str]) -> dict[str, float]:
    """What `--units` says itself: {"tokens": 1000.0}. Raises UserError."""
    units: dict[str, float] = {}
    for text in texts:
        if text.startswith("@"):
            continue
        for name, count in _counts(text, "--units").items():
            if name in units:
                raise UserError(f"--units {text}: {name} is given twice")
            units[name] = count
    return units


def count_from_files(window: Window, written_before: Mapping[Path, int | None]) -> list[str]:
    """Count in `window` what the command wrote into files, lines of NAME=NUMBER, and tell what could not be read.

    Whatever is wrong with a file is told and raises nothing: what was measured is not stored yet.

    `written_before`: when each file was written last before the command ran, in nanoseconds; None: it was not there.
    """
    problems = []
    for path, before_ns in written_before.items():
        if before_ns is not None and written_ns(path) == before_ns:
            problems.append(f"--units @{path}: the command did not write it; what it holds is from before")
            continue
        try:
            for line in _text(path).splitlines():
                if line.strip():
                    window.count(**_counts(line.strip(), str(path)))
        except OSError as e:
            problems.append(f"--units @{path}: cannot be read ({e.strerror})")
        except UserError as e:
            problems.append(str(e))
        except UnicodeDecodeError as e:
            problems.append(f"--units @{path}: is no text ({e.reason})")
        except Exception as e:
            problems.append(f"--units @{path}: cannot be counted ({type(e).__name__}: {e})")
    return problems


def _text(path: Path) -> str:
    """Raises OSError, also for a pipe, which would be waited for, and UnicodeDecodeError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return path.read_text(encoding="utf-8")


def written_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _counts(text: str, where: str) -> dict[str, float]:
    name, _, number = text.partition("=")
    try:
        return checked_counts({name.strip(): float(number)})
    except ValueError:
        raise UserError(f"{where} {text}: allowed is NAME=NUMBER with a number from 0, such as tokens=1000") from None
