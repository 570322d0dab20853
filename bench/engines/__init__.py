"""Engines: where the runs of a suite are done."""
