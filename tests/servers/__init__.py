"""Sessions against authorization servers that others wrote, on loopback sockets."""
