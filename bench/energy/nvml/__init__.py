"""NVIDIA's GPUs by NVML: the library, the cards, and which of their figures counts."""
