"""Time and energy of inference, side by side."""
