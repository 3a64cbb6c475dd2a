"""Embeddings of images: computing them, storing them in files, and searching these files."""
