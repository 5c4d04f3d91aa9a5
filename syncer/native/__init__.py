"""C++: our own UDT (``_udt``, whose face is `syncer.udt`), and libudt as its peer in tests and measurements."""
