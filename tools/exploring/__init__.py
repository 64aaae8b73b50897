"""The common parts of the explorations `tools.lifecycle` and `tools.claimant`."""
