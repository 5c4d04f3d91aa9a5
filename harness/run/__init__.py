"""One run: a lab, a system under test, a seeded workload and the history of what was done and seen.

Owns the session, the workload's plan and its execution on the nodes, the recorder and the run's directory.
Refuses to judge (``checkers``), to know Robot Framework (``robotlib``) or to render (``report``).
"""
