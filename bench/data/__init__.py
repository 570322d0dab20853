"""Images and labels: read, checked, cached."""
