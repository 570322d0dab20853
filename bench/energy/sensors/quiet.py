"""Imports of packages that print when their library is missing; standard output belongs to the command that is measured."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Nothing that Python code of the block prints is seen. amdsmi 7 does so, and what imports it: CodeCarbon, Zeus."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
