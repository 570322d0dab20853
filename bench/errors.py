"""The one exception that means "the input is wrong", as opposed to "greenprune is wrong"."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the command line prints it without a traceback and ends with exit code 2.

    The message is one sentence per problem, each naming the file, the key, the value and what is allowed.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`' (did you mean "gated"?)'` for the nearest of `known` to `name`, or an empty string when nothing is near.

    Capitals and small letters are alike.
    """
    names: dict[str, str] = {}
    for each in known:
        names.setdefault(each.casefold(), each)
    near = difflib.get_close_matches(str(name).casefold(), names, n=1, cutoff=0.6)
    return f' (did you mean "{names[near[0]]}"?)' if near else ""


def is_full(error: BaseException) -> bool:
    """Whether `error`, or what it came from, says that there is no space left to write to."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(seen) or "os error 28" in str(
            seen
        ):  # of libraries with errors of their own
            return True
        seen = seen.__cause__ or seen.__context__
    return False
