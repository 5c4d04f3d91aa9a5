"""The mover that carries blocks over UDT."""
