"""Tasks and actors (Ray's words) in the program that owns them.

``_runtime`` has the one `Runtime` of a program. It drives the workers of tasks with an engine of
`pool._local`, whose driver reads the sockets of actors and borrowers too; all books are changed
under the lock of that driver (``_aside``). Threads wait for objects on ``_conditions``.

* Tasks: ``_tasks``; those that ask for anything but one CPU get a process, ``_task_processes``.
  What they have yielded: ``_streams``.
* Actors: ``_actors`` with ``_actor_calls``, as processes ``_processes``, by name ``_directory``;
  ``_detached`` for those that outlive the program. ``_grants``: who has which CPUs and GPUs.
* Workers that use the runtime themselves: ``_borrowers``, and ``_lending``, which says in which
  order their messages are read. ``_families``: which call was made by which.
* What is shown: ``_output`` and ``_logs``, ``_unhandled`` (errors that nobody asked for),
  ``_timeline``, ``_causes``.

The other side is `pool._in_worker`. See docs/design/actors.md.
"""
