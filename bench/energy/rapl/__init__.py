"""RAPL, the energy counters of Intel's and AMD's processors, by Linux's powercap."""
