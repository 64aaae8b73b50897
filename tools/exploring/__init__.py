"""What the explorations of pure machines have in common: `tools.lifecycle`, `tools.claimant`."""
