"""Errors, files, devices and arrays: what every other package may use."""
