"""Compare `pool.Pool` with the standard pool and with others, side by side.

``python -m bench`` runs every suite, writes a table and a chart into ``bench/results/``, and says
how each row stands to its bound. Whatever is compared runs in one process, in turns: round by
round each contender does the same work, so that a busy moment of the machine hits all of them.

``python -m bench.tutorials`` runs programs written for Ray here and on Ray, and compares the
answers.
"""
