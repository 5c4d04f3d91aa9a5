"""Nodes and the way into them. Owns namespaces, sshd and the Fabric remote; refuses to know the WAN or any SUT."""
