"""Programs that anyone can run to see a session endure; see "Endurance" in CONTRIBUTING.md."""
