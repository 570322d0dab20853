"""Our `one_cycle` and `hesso` beside the code of their authors, on handwritten digits.

    git clone https://github.com/ghimiredhikura/OCSPruner
    git clone https://github.com/tianyic/only_train_once
    python -m tests.methods.rivals.agreement --ocspruner OCSPruner --only-train-once only_train_once

prints what agrees and how far, one line each; the figures in docs/explanation/rivals.md are from here. Their code is run as it
is, on the CPU; where it reads what newer versions of PyTorch have moved, that is put back meanwhile. Minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from tests.methods.rivals import ocspruner, only_train_once


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ocspruner", type=Path, metavar="DIR", help="a checkout of OCSPruner")
    parser.add_argument("--only-train-once", type=Path, metavar="DIR", help="a checkout of only_train_once")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args(argv)
    for name, folder, compare in (
        ("one_cycle", arguments.ocspruner, ocspruner.compare),
        ("hesso", arguments.only_train_once, only_train_once.compare),
    ):
        if folder is not None:
            for what, values in compare(folder.resolve(), arguments.seeds).items():
                print(f"{name} {what}: {statistics.mean(values):.6g} ({', '.join(f'{v:.6g}' for v in values)})")


if __name__ == "__main__":
    main()
