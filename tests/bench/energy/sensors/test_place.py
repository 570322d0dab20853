"""Where sources are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.energy.sources.trees import place


@pytest.mark.parametrize(
    ("environ", "inside"),
    [
        ({}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),  # containerd leaves no file
        ({"APPTAINER_CONTAINER": "/images/torch.sif"}, True),
        ({"SINGULARITY_CONTAINER": "/images/torch.sif"}, True),
        ({"container": "lxc"}, True),
    ],
)
def test_a_container_is_known_by_its_environment(tmp_path: Path, environ: dict[str, str], inside: bool) -> None:
    assert place(tmp_path, environ=environ).in_container == inside


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", "run/systemd/container"])
def test_a_container_is_known_by_a_mark(tmp_path: Path, mark: str) -> None:
    file = tmp_path / "root" / mark
    file.parent.mkdir(parents=True)
    file.touch()
    assert place(tmp_path).in_container
