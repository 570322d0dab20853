"""Which of the processes of a run this is. Known before PyTorch is imported: a process shows it its own GPU alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

VARIABLE = "GREENPRUNE_RANKS"
"""In the environment of a rank: what `Shared` says."""

BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from greenprune.bench.distributed.rank import begin, end
begin()
from greenprune.bench.run.worker import main
end(main(sys.argv[2:]))
"""
"""As of `greenprune.bench.run.process`: `-m` would put the working directory, a user's own folder, first."""


@dataclass(frozen=True)
class Shared:
    """What all ranks of a node are told.

    Attributes:
        ended: the file that says how the run ended, see `Ended`.
        gpus: as CUDA_VISIBLE_DEVICES names them, one for each rank; empty: they train on the CPU.
        threads: of the node, for what is done when the other ranks have gone.
    """

    ended: str
    gpus: tuple[str, ...]
    threads: int

    def in_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}


@dataclass(frozen=True)
class Rank:
    """This process among those of its run.

    Attributes:
        rank, size: of all.
        local_rank, local_size: of those of this node.
        node, nodes: of all nodes.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    node: int
    nodes: int
    shared: Shared

    @property
    def leads(self) -> bool:
        """Whether it tells the launcher what happens, and writes what is written."""
        return self.rank == 0


def this_rank(environ: Mapping[str, str] = os.environ) -> Rank | None:
    """None: this process does its run alone."""
    told = environ.get(VARIABLE)
    if told is None:
        return None
    numbers = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
    stored = json.loads(told)
    shared = Shared(stored["ended"], tuple(stored["gpus"]), stored["threads"])
    rank, size, local_rank, local_size, node, nodes = (int(environ[name]) for name in numbers)
    return Rank(rank, size, local_rank, local_size, node, nodes, shared)


def begin() -> None:
    """First of all in a rank: end if the run has (it was started again for nothing), and look at one GPU alone."""
    rank = this_rank()
    assert rank is not None
    if Ended(rank.shared.ended).told() is not None:
        sys.exit(0)
    if rank.shared.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = rank.shared.gpus[rank.local_rank]


def end(code: int) -> NoReturn:
    """Last of all in a process of a run: what it had to do is done and stored, and nothing is torn down.

    Threads of libraries that outlive the interpreter abort the process now and then ("terminate called without an active
    exception"). To its launcher that is a failure, or a lost rank, and all would be started again.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Ended:
    """How a run ended in the words of its ranks: they end orderly, so that nobody starts them again.

    A rank that was killed, or lost another one, leaves no word; then all are started again.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def tell(self, code: int, reason: str | None = None) -> None:
        """The first word counts. `reason`: for having no result, of a rank that nobody listens to."""
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        temporary.write_text(json.dumps([code, reason]), encoding="utf-8")
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)

    def told(self) -> tuple[int, str | None] | None:
        """The exit code of the run, and the reason; None while there is no word."""
        try:
            code, reason = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return code, reason

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
