"""What a user may ask for: the entries of a recipe, the recipes, and the flags that change them."""
