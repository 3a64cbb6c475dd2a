"""Recipes, their entries, and the flags that change them."""
