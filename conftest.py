"""Gives pytest the option `--benchmark`, the regression gate; see tests/benchmarks/plugin.py."""

pytest_plugins = ["tests.benchmarks.plugin"]
