"""YAML to model: strict, every error with file, line and column; the JSON Schema."""
