"""Acceptance run of a machine: checks that all parts of a training work there and compute the same as a CPU."""
