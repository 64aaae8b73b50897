"""The ways to authenticate, at servers that others wrote, on loopback sockets."""
