"""The parts behind the transforms. Nothing in here is public."""
