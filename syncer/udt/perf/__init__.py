"""Measures what a path carries over UDT, as iperf3 does for TCP: ``python -m syncer.udt.perf --help``.

The receiving end counts payload by its own monotonic clock: neither what waits in the sender nor the way back counts.
Which UDT is measured is behind ``port.py``, one module each; nothing else here knows any of them.
"""
