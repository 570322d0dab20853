"""What the engine `slurm` stands on."""
