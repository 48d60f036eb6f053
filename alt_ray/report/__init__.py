"""What a model made of its videos, as pictures and as a page."""
