"""Proof that the harness is true: in a guest whose kernel has netem, and over a grid of conditions on this machine."""
