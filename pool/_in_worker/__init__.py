"""The side of the workers: what hosts an actor, and what tasks may ask of the program."""
