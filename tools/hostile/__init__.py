"""Peers that say anything: servers, stores and token managers, and what they cost."""
