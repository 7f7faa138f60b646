"""The engine that runs jobs on worker processes of this machine.

A *job* is one call of a user's, cut into *chunks*; ``_jobs`` says where these come from (its
*source*) and where outcomes go (its *sink*). Faces talk to ``_engine`` only, whose workers begin as
``_starting`` says, and which is one of the ``_engines`` of a pool: the next one follows a crash, or
a fork of the process. Behind it are three parts, which know as little of each other as possible:

* The **scheduler** decides which worker runs what. It takes an event and returns commands (both in
  ``_events``), and does no I/O: ``_scheduler``, with its records in ``_records``, ``_roster`` and
  ``_queue``, and parts of its own for sizes of messages (``_costs``, ``_dispatch``), numbers of
  workers (``_staffing``), what is stuck, cancelled or lent (``_stragglers``, ``_cancelling`` with
  ``_interrupts``, ``_loans``).
* The **driver** does what the scheduler says, under one lock: ``_driver`` on top of ``_door``, with
  ``_crew`` and ``_peers`` for processes, ``_sending``, ``_arrivals`` and ``_outcomes`` for
  messages (``_pickle_streams`` parts those that came together), ``_alarm`` to wake its thread,
  ``_job_table`` and ``_functions`` for what is under way, ``_timers``, and ``_guard`` with
  ``_shortage`` for memory. ``_protocols`` says what it expects of these. ``_given_up``: why it
  gives up its jobs; ``_last_calls``: callbacks of those that were under way when the pool was
  terminated.
* The **lead** says which thread drives: ``_waiting``, ``_tending``. See docs/design/driving.md.

Jobs of other kinds: ``_streams`` (calls one at a time), ``_lazy`` (`imap`), ``_awaited`` (chunks
that wait for references), ``_express`` (one call on an idle pool), ``_nested`` and ``_relay`` (both
ends of a pool that is used by its own tasks; the answers come through a ``_receiver``). Used by
several: ``_members`` (of weak sets).
"""
