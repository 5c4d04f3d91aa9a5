"""Decides purely how a topology becomes addresses, wiring and qdiscs. No I/O; shaping is decided nowhere else."""
