"""Helpers for files, pictures and provenance that know nothing of the method."""
