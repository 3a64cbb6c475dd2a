"""Acceptance run of a machine: does everything that a training needs work there, and does it compute what a CPU computes?"""
