"""The ways to authenticate, with third-party servers, on loopback sockets."""
