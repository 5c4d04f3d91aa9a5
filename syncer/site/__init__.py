"""The coordinator process: wires the core to its adapters over ZeroMQ, and configures Circus."""
