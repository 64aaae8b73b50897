"""Programs that put a session under long load; see "Endurance" in CONTRIBUTING.md."""
