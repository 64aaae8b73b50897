"""Hostile peers (servers, stores and token managers that send anything), and their cost."""
