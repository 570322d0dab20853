"""The command `greenprune schema`."""

from __future__ import annotations

import argparse
import json


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The command has no arguments."""
    command.set_defaults(call=command_schema)


def command_schema(arguments: argparse.Namespace) -> int:
    """Print the JSON schema of suite files."""
    from greenprune.bench.suite.schema import schema

    print(json.dumps(schema(), indent=2))
    return 0
