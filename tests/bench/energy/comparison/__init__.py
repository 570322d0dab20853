"""Our meter, Zeus and CodeCarbon on the same scripted traces. `python -m tests.bench.energy.comparison` runs all."""
