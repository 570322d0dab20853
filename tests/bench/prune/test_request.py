from __future__ import annotations

import tomllib

from greenprune.bench.prune.request import toml_text


def test_what_is_written_is_read_again() -> None:
    data = {
        "name": "runs",
        "dataset": {"folder": 'a "quoted" \\ é folder', "image_size": 64, "mean": [0.1, 1e-9]},
        "budgets": [0.5],
        "training": {"epochs": 3, "nesterov": True, "learning_rate": 0.02, "betas": [0.9, 0.99]},
        "methods": [{"name": "dense"}, {"name": "gated", "options": {"drift": 5.0}}],
    }
    assert tomllib.loads(toml_text(data)) == data
