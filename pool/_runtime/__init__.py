"""The side of the program: who owns objects, runs tasks and keeps actors."""
