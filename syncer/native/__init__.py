"""C++: the binding of libudt with a rate-setting congestion control, and its Python face."""
