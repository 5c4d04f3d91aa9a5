"""Every decision of the engine: versions, conflicts, what to fetch, what to send. Sans-IO: no clock, no randomness.

Owns the replica's state machine. Refuses to touch files, sockets or databases: callers feed it events and carry out
the commands that it returns, and a deterministic simulator does the same in tests.
"""
