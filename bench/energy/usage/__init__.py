"""What models of energy stand on: CPU time and memory of processes, and watts of a busy core."""
