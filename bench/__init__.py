"""The harness: suites in, records out."""
