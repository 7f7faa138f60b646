"""Objects, actors and resources (Ray's words) as both sides know them: no process, socket or clock.

* ``_refs`` has references, which in the program *are* the objects' records; ``_home`` says whom
  they ask: the `Runtime` of a program, or in a worker the one that asks it. ``_ids``: their names
  as Ray's classes, ``_dynamic``: several of them as one value.
* ``_parcels``: values and arguments on their way, pickled and not opened. ``_attachments`` go
  along into other programs, ``_failures`` are errors. ``_outcomes``: what `get` makes of it.
* ``_codes`` and ``_options``: remote functions and classes, and what was asked for them.
* State machines and books: ``_mailbox`` (one actor), ``_resources`` and ``_requests``.
* ``_protocol``: the messages between `pool._runtime` and `pool._in_worker`.
"""
