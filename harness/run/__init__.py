"""One run: session, workloads, recorder, artifacts."""
