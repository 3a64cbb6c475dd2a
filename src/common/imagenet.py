"""ImageNet's statistics, by which images are normalised: one value a channel in the order R, G, B, of pixels of 0..1."""
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
