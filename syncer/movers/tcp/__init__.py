"""The mover that carries blocks over TCP."""
