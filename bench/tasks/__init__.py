"""What a network is trained for: loss, scores, and how a batch is fed to it. One file a task."""
