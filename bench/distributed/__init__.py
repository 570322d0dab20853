"""One run on several devices: its processes are started by torchrun's launcher, find each other, and tell each other."""
