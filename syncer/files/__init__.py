"""The folder on disk: scan, watch, hash, install. Owns every fsync and rename; decides nothing."""
