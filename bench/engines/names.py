"""The engines by name. Needs the standard library alone, so that the help can name them."""

from __future__ import annotations

LOCAL = "local"

ENGINES: dict[str, str] = {
    LOCAL: "on this machine",
}
"""Each the name of a file beside this one, and in words where it does runs."""
