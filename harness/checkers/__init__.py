"""Pure functions from the history of a run to a verdict: convergence, durability, conflicts, timing.

Owns what "nothing lost" means. Refuses to know an engine: who saw what is read from what users found at a path just
before they wrote there, never from an engine's clocks or version vectors. Refuses to do I/O.
"""
