"""Thin typed Robot Framework keywords over the run layer, and the runner of suites."""
