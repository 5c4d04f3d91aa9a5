"""syncer keeps folders identical at N sites, with nothing acknowledged ever lost, over UDT.

It owns replication. It refuses to know who tests it: nothing here imports the harness.
"""
