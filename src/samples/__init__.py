"""Data that the project draws itself, for quick starts and tests."""
