"""Programs that take too long for a test: explorations, fleets, long runs, planted bugs."""
