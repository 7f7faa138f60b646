"""Start worker processes and run the loop inside them."""
