"""What is printed: as it is written, whatever it is, to whatever takes it.

Names and commands come from records, which anybody may have written: no markup of rich and no escape sequence in them
means anything here.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from greenprune.bench.foreign import visible

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """Where a command prints, every text literally: without markup, emoji codes and control characters."""
    from rich.console import Console  # late: what a command says in one sentence needs none of it
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(visible(text), **options | {"markup": False, "emoji": False})

        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError: rich would end the process here, with a code that says something else

    return Plain(stderr=stderr, markup=False, emoji=False)


def complain(text: str) -> None:
    """Each line of `text` on standard error, after the program's name; in silence where nobody listens any more."""
    try:
        for line in text.split("\n"):
            print(f"greenprune: {visible(line)}", file=sys.stderr)
    except (OSError, ValueError):
        drop_output()


def make_printable() -> None:
    """Characters that the terminal's encoding does not have are printed as `?` instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")


def close_output() -> None:
    """Write out what is still to be printed. Raises OSError: it cannot be.

    Whether or not: the interpreter has nothing left to complain of at its end.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        drop_output()
        raise


def drop_output() -> None:
    """Of standard output and standard error, what can be written no more goes nowhere.

    What is left in the buffer of such a stream would change the exit code at the end of the interpreter.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with contextlib.suppress(OSError, ValueError, AttributeError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
