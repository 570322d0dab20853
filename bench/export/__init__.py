"""Finished networks as files that other runtimes read."""
