"""What the explorations of pure machines have in common: `tests.lifecycle`, `tests.claimant`."""
