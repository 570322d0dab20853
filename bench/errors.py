"""The one exception that means "the input is wrong", as opposed to "greenprune is wrong"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the command line prints it without a traceback and ends with exit code 2.

    The message is one sentence per problem, each naming the file, the key, the value and what is allowed.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`' (did you mean "gated"?)'` for the nearest of `known` to `name`, or an empty string when nothing is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""
