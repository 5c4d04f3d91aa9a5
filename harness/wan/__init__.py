"""The WAN core: the one place that is impaired, in any kernel to which we hold a netlink socket, and its probes."""
