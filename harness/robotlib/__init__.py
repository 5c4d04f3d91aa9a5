"""Robot Framework over a session: typed keyword libraries by topic, and the runner that runs suites in this process.

Owns the words of the suites and what a test's end means. Refuses to hold logic that would be wanted without Robot: that
is in ``run`` and ``checkers``.
"""
