"""Sessions with third-party authorization servers, on loopback sockets."""
