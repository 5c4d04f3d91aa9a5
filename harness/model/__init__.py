"""The nouns of the harness as frozen, validated values. Pure: no I/O, no clock, no randomness.

Owns units, impairments, topologies, history, measurements, verdicts and the record of a run.
Refuses to read files (``config``) or to decide how the kernel does it (``plan``).
"""
