"""FixMatch with and without adversarial views."""
