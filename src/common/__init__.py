"""Errors, files, devices and arrays, used by all other packages."""
