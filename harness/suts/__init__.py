"""Adapters that install, start and ask a system under test, through a node's Remote only. No engine is imported."""
