"""Processes that run tasks: how they are started, what they take over, and the loop inside them.

* In the program: ``_launcher`` asks a server for workers; ``_servers`` has the servers, each a
  ``_server_process``, the first of which ``_early`` starts. ``_argv``: their command line.
  ``_sooner`` tells when to do without.
* In the server: ``_forkserver``, which forks workers and alone reaps them, with its ``_clients``.
  It was started by exec, or is a fork of the program (``_inherited``); ``_forking`` is what
  makes forks; ``_spawned`` workers are fresh interpreters.
* In a worker: ``_boot`` makes one of a fresh process, ``_worker`` has its loop, ``_quick`` and
  ``_parts`` the inner loops, ``_functions``, ``_payloads`` and ``_outcomes`` what goes in and out.
  ``_lookups`` asks the program for what is missing, ``_lost_interrupts`` finds what Python drops.
* What it has of the program: ``_settings`` (what Python and libraries are set to: ``_carried``;
  variables of the program's modules: ``_variables``; what the program has put into others:
  ``_patches``), ``_identity``, ``_stdio``.
* How it uses the machine: ``_heap``, ``_thread_limits`` (``_loaded_limits`` in a fork).
* Whose death ends whom: ``_lifeline`` (a server's), ``_tied`` (a worker's), ``_tracking``.
* What is loaded before the fork: ``_warmup``, ``_foreseen``; whether a server that is running still
  fits the program: ``_standing``; when a module is imported: ``_imports``.

See docs/design/workers.md.
"""
