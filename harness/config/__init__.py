"""YAML files to the model: strict, and every problem of a file reported at once with its line and column.

Owns the form in which topologies and profiles are written, its JSON Schema, and where the shipped files lie.
Refuses to decide what the kernel does with a topology (``plan``).
"""
