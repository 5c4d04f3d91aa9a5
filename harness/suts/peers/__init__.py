"""Programs that move data from one node to another, behind one small port, for benchmarks to hold beside each other.

Owns how each is called and what its output means. Refuses to judge: a peer reports what arrived and when.
"""
