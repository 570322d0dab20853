"""Choosing a method's options on held-out images."""
