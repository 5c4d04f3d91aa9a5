"""Systems under test behind one small port. An adapter drives a program's command line over a node's remote.

Owns how a product is configured, started, asked and stopped. Refuses to import any engine: what an adapter knows, a
third party's adapter could know too.
"""
