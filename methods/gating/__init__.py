"""The proposed method: gates, their search, their removal."""
