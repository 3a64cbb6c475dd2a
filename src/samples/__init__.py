"""Synthetic data for quick starts and tests."""
