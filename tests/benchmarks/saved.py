"""What earlier sessions saved in pytest-benchmark's JSON files, and which of them a benchmark is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

KEY = "regression_gate"  # of the gate's part of a file, and of a benchmark's `extra_info`

Ratio = Annotated[float, Field(gt=0)]


class Figures(BaseModel):
    """What the gate compares of one benchmark: ratios to its reference, block by block."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fingerprint: str  # of the code of benchmark and reference: other work gives other ratios
    cpu_ratios: tuple[Ratio, ...] = Field(min_length=2)
    energy_ratios: tuple[Ratio, ...] | None  # None: no valid joules
    energy_kind: str


class Session(BaseModel):
    """The gate's own part of a file. Only a run that passed can be the baseline of the next."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool
    processor: str


class _ExtraInfo(BaseModel):
    figures: Figures | None = Field(None, alias=KEY)


class _Benchmark(BaseModel):
    fullname: str
    extra_info: _ExtraInfo


class _File(BaseModel):
    session: Session | None = Field(None, alias=KEY)
    benchmarks: tuple[_Benchmark, ...]


class Saved:
    """Saved runs, the newest first, read when they are needed.

    Args:
        paths: the files, oldest first. One that cannot be read is left out and named in `problems`.
        processor: of this machine. Runs of another do not count: pytest-benchmark's machine id knows the system alone.
        chosen: the user named these files, so they count even where their run had failed.
    """

    def __init__(self, paths: Sequence[Path], processor: str, *, chosen: bool = False) -> None:
        self.problems: list[str] = []
        self._paths = list(paths)
        self._processor, self._chosen = processor, chosen
        self._read: list[tuple[str, dict[str, Figures]]] = []

    def find(self, fullname: str, fingerprint: str) -> tuple[str, Figures] | None:
        """File name and figures of the newest run that counts and has this benchmark, with the same code of its own.

        Not just the newest run: that may have had a selection, or come from another branch.
        """
        for name, run in self._runs():
            if fullname in run and run[fullname].fingerprint == fingerprint:
                return name, run[fullname]
        return None

    def _runs(self) -> Iterator[tuple[str, dict[str, Figures]]]:
        yield from self._read
        while self._paths:
            path = self._paths.pop()
            run = self._load(path)
            if run:
                self._read.append((path.name, run))
                yield self._read[-1]

    def _load(self, path: Path) -> dict[str, Figures]:
        try:
            found = _File.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else _first(error)
            self.problems.append(f"{path} is left out, it is not a readable run of benchmarks: {reason}")
            return {}
        session = found.session
        if session is None or session.processor != self._processor or not (session.passed or self._chosen):
            return {}
        return {b.fullname: b.extra_info.figures for b in found.benchmarks if b.extra_info.figures is not None}


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    wrong: Any = error.errors(include_url=False)[0]
    place = ".".join(map(str, wrong["loc"]))
    return f"{place}: {wrong['msg']}" if place else wrong["msg"]
