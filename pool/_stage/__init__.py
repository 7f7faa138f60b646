"""The side of the workers: actors on their stage, and what tasks may ask of the program."""
