"""`pytest --benchmark`: run the benchmarks of this folder, save them, and fail where the last saved run was better.

pytest-benchmark measures, shows and saves; its own options keep working. What it lacks is here: each benchmark is
measured side by side with a fixed reference (`side_by_side`), and the ratio of the two, by CPU time and by joules, is
compared with the one of the last saved run of this machine (`saved`, `ratios`). A slower or busier machine does not
change that ratio. A run that fails is saved as failed and never becomes what the next one is compared with.
"""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.saved import KEY, Saved, Session

FOLDER = Path(__file__).parent
GATE = "regression-gate"  # the name of the plugin that exists with --benchmark only
TOLERANCE = 0.15
ROUNDS = 30


def pytest_addoption(parser: pytest.Parser) -> None:
    # Registered exactly: pytest takes no abbreviations, so this never means one of pytest-benchmark's --benchmark-*.
    group = parser.getgroup("benchmark")
    group.addoption(
        "--benchmark",
        action="store_true",
        dest="regression_gate",
        help="Run tests/benchmarks alone, save the figures, and fail where CPU time or joules, relative to a reference "
        "workload, rose since the last saved run of this machine (with --benchmark-compare=NUM: since that run).",
    )
    group.addoption(
        "--benchmark-tolerance",
        type=_tolerance,
        default=TOLERANCE,
        metavar="FRACTION",
        help="With --benchmark: by how much CPU time or joules may rise. Default: %(default)s",
    )
    group.addoption(
        "--benchmark-rounds",
        type=_rounds,
        default=ROUNDS,
        metavar="NUM",
        help="With --benchmark: blocks of each benchmark, up to three times as many where it is unclear. "
        "Default: %(default)s",
    )


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"{text}: allowed is a fraction from 0 up, such as 0.15")
    return value


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 4:
        raise ArgumentTypeError(f"{text}: allowed is a whole number from 4 up")
    return int(text)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Plain pytest leaves this folder out, --benchmark everything else; what is named on the command line is not asked."""
    if not config.getoption("regression_gate"):
        return True if collection_path == FOLDER else None
    on_the_way = FOLDER.is_relative_to(collection_path) or collection_path.is_relative_to(FOLDER)
    return None if on_the_way else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("regression_gate"):
        for item in items:
            if item.path.is_relative_to(FOLDER):
                item.add_marker(pytest.mark.skip(reason="a benchmark: runs with --benchmark"))


@pytest.hookimpl(tryfirst=True)  # pytest-benchmark reads its options when it is configured, last of all
def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("regression_gate"):
        return
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("--benchmark needs the plugin pytest-benchmark, which is switched off")
    if config.getoption("dist", "no") != "no":
        raise pytest.UsageError(
            "--benchmark measures, and processes of pytest-xdist would disturb each other: leave -n out, or add -n 0"
        )
    if "://" in (storage := config.getoption("benchmark_storage")) and not storage.startswith("file://"):
        raise pytest.UsageError(
            f"--benchmark compares with saved files, so --benchmark-storage={storage} cannot be used"
        )
    if not (config.option.benchmark_save or config.option.benchmark_autosave):
        config.option.benchmark_save = "gate"
    config.pluginmanager.register(Gate(config), GATE)


class Gate:
    """The state of one session with --benchmark.

    Attributes:
        tolerance: fraction by which CPU time or joules may rise.
        rounds: blocks of each benchmark, unless it is unclear whether it regressed.
        outcomes: of the benchmarks that have run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.tolerance: float = config.getoption("benchmark_tolerance")
        self.rounds: int = config.getoption("benchmark_rounds")
        self.outcomes: list[Any] = []
        self._config = config
        self._saved: Saved | None = None
        self._passed = False

    def saved(self) -> Saved:
        """The runs to compare with: all, or those that --benchmark-compare names."""
        if self._saved is None:
            storage: Any = self._config._benchmarksession.storage  # type: ignore[attr-defined]
            wanted = self._config.getoption("benchmark_compare")
            chosen = isinstance(wanted, str)
            paths = storage.query(wanted if chosen else "[0-9][0-9][0-9][0-9]_")
            self._saved = Saved(paths, _processor(), chosen=chosen)
        return self._saved

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-benchmark saves
    def pytest_sessionfinish(self, exitstatus: int) -> Any:
        self._passed = exitstatus == pytest.ExitCode.OK
        return (yield)

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        output_json[KEY] = Session(passed=self._passed, processor=_processor()).model_dump()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.outcomes:
            return
        terminalreporter.section("regression gate: factor since the saved run [95 % interval]")
        for problem in self.saved().problems:
            terminalreporter.write_line(problem)
        for outcome in self.outcomes:
            verdict = "FAILED" if outcome.failure(self.tolerance) else "ok"
            terminalreporter.write_line(f"{verdict:6} {outcome.name}: {outcome.sentence(self.tolerance)}")


def _processor() -> str:
    from greenprune.bench.machine.machine import (
        cpu_name,  # imports torch, which a session without benchmarks may not need
    )

    return cpu_name()
