"""What users of a Pool touch: the class, its results and its options.

``_pool`` has the class; it leaves the work to functions that are imported with the first call:

* ``_calls``, ``_maps`` and ``_lazy_calls`` turn `apply`, `map` and `imap` into jobs of an engine.
  Each job has a *sink*, which takes its outcomes: those of ``_results`` and ``_iterators``.
* ``_engines`` has the engines behind one pool on this machine, which are several after a call that
  can only be inherited (``_inherit``). ``_handles`` is what a pool becomes that was sent to a task.
* ``_own_modules``: what a test has taken out of `sys.modules` is put back for the next pool.
  ``_makers``: which installed packages are the program's own.
* ``_options`` with ``_seeding`` and ``_progress``: the keyword arguments beyond the standard's.
* ``_awaited`` and ``_references``: calls with references of Ray's words among their arguments.
* ``_standard`` and ``_inside``: what programs find that look behind the public names.
* ``_stats`` and ``_html``: what a pool shows of itself.

On top of all other packages; only public modules import from here.
"""
