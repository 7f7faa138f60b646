"""Tasks and actors (Ray's words) where they run, and what they may ask of their program.

The counterpart of `pool._runtime`, with the messages that `pool._objects._protocol` describes.
Workers of a plain Pool load nothing of this.

* Tasks are functions that the loop of `pool._workers` calls: ``_runner``, with notes in ``_trace``.
* An actor takes its worker over, by a message of its own: ``_actor`` has the loop, ``_concurrent``
  that of actors which run calls side by side, ``_lanes`` their event loops, ``_interrupts`` has
  Ctrl-C strike a task and nothing else, ``_graceful_exit`` is the end in good order.
* A detached actor is a program of its own: ``_detached``, its ``_keeper``, its output ``_logs``.
* References in a worker are borrowed from the runtime, which owns the objects (``_borrowed_refs``):
  ``_borrowed`` asks it, with ``_answers``, ``_streams`` and ``_sent_codes``; ``_guest`` lets a
  Pool's worker do so.
* ``_context``: which call runs here. ``_output``: what is printed here.
"""
