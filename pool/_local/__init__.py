"""Run jobs on this machine: a scheduler that decides and a driver that does."""
