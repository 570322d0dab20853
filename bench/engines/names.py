"""The engines by name. Needs the standard library alone, so that the help can name them."""

from __future__ import annotations

LOCAL, SLURM, RAY = "local", "slurm", "ray"

ENGINES: dict[str, str] = {
    LOCAL: "on this machine",
    SLURM: "as jobs of a cluster",
    RAY: "as tasks of Ray, here or on a cluster",
}
"""Each the name of a file beside this one, and in words where it does runs."""
