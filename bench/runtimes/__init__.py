"""What runs a finished network: eager PyTorch and other runtimes, one file each behind a small interface."""
