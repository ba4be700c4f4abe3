"""What a publication about a study needs: figures, their numbers, a methods section and its references."""
