"""From images to embeddings, files of them, and the search in such files."""
