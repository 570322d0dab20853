"""`python -m greenprune`, and the command `greenprune`: the command line."""

import os
import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Before anything is imported, which takes seconds: Ctrl-C is answered with a sentence from the beginning.
    INTERRUPTED = b"greenprune: interrupted before anything was started\n"
    signal.signal(signal.SIGINT, lambda *_: (os.write(2, INTERRUPTED), os._exit(130)))


def main() -> int:
    from greenprune.bench.cli.main import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
