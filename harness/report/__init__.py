"""The run's record as pages and files for people and machines."""
