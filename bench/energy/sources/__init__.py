"""One file for each kind of hardware that tells its energy; `greenprune.bench.energy.find` asks them all."""
