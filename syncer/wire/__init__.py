"""Messages and their codec, versioned: between sites (control channel), between a coordinator and its movers, and the
records that movers put on the WAN. Pure."""
