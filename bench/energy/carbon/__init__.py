"""Emissions of energy by the grid it came from."""
