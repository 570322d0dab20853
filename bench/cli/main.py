"""The command `greenprune`: a file each for its commands, of which only the one that was asked for is imported."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from greenprune.bench import terminal
from greenprune.bench.errors import UserError, is_full
from greenprune.bench.foreign import shortened
from greenprune.bench.run.stop import INTERRUPTED, Stopped, interruptible

COMMANDS = {
    "run": "run suites and write records, tables and figures",
    "prune": "make one network smaller, and write what serves it",
    "plan": "print what suites would run, and what time and energy it would take",
    "status": "how the runs of a suite stand: queue, progress, joules so far",
    "cancel": "end what is queued and running of a suite; it goes on when it is started again",
    "measure": "measure inference of all networks of a suite side by side, in one process",
    "report": "rebuild tables and figures from records alone",
    "export": "write the network of a run as a file for another runtime, with a model card",
    "publish": "make a static site of suites: pages, records, and a table of all",
    "tune": "choose a method's options on the held-out images, and say what that cost",
    "schema": "print the JSON schema of suite files, for editors",
    "doctor": "what of this machine's energy can be measured, how well",
    "energy": "measure any command with its whole process tree",
    "verify": "check that results are what they say: records, networks, and the data where it is there",
    "compare": "find what got worse between two results folders",
}
"""What each does. The module of the same name beside this one has its arguments and calls its work."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 well, 1 a run failed or got worse, 2 bad input, 130 interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in argv if not word.startswith("-")), "")
    measured = None
    if argv[:1] == ["energy"]:
        from greenprune.bench.cli.energy import split_command

        argv, measured = split_command(argv)
    terminal.make_printable()
    try:
        arguments = parser(only=command).parse_args(argv)
        if measured is not None:
            arguments.measured = measured
        interruptible()
        code = int(arguments.call(arguments))
        terminal.close_output()
        return code
    except UserError as e:
        terminal.complain(str(e))
        return 2
    except BrokenPipeError:  # as with `| head`: whoever read it has enough
        terminal.drop_output()
        return 128 + signal.SIGPIPE
    except OSError as e:
        return _not_written(e)
    except Stopped as e:
        terminal.complain(f"stopped ({e}); what was finished is kept, start it again to go on")
        return 130
    except KeyboardInterrupt:
        terminal.complain(INTERRUPTED)
        return 130


def _not_written(error: OSError) -> int:
    """One sentence for a full disk, a file that cannot be used, output that cannot be printed; raises whatever else it is."""
    if is_full(error):
        where = f"{error.filename}: " if error.filename else ""
        terminal.complain(f"{where}there is no space left on the disk; make space and start it again")
    elif error.filename is None and error.errno in (errno.EIO, errno.EBADF):
        terminal.complain(f"standard output: cannot be written ({error.strerror})")
    elif error.filename is not None:  # whatever is wrong with a file, it is not greenprune
        terminal.complain(f"{shortened(str(error.filename), 300)}: {error.strerror or type(error).__name__}")
    else:
        raise error
    terminal.drop_output()
    return 2


class ShowVersions(argparse.Action):
    """Prints greenprune's version and those of what its figures depend on, as records name them."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from greenprune.bench.machine.machine import describe_versions  # late: it imports torch

        versions = describe_versions()
        print(f"greenprune {versions.pop('greenprune')}")
        print(", ".join(f"{name} {version}" for name, version in versions.items()))
        parser.exit()


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        only: the command whose arguments it is to know; of the others it then has the names alone, so that their modules,
            and what these import, stay out. None: all of them.
    """
    top = argparse.ArgumentParser(
        prog="greenprune", description="Settle with measured joules which way of pruning a neural network is worth it."
    )
    top.add_argument("--version", action=ShowVersions, nargs=0, help="print the versions that a figure depends on")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, does in COMMANDS.items():
        command = commands.add_parser(name, help=does)
        if only in (None, name):
            import_module(f"greenprune.bench.cli.{name}").add_arguments(command)
    return top


if __name__ == "__main__":
    sys.exit(main())
