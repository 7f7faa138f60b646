"""Messages between two processes, whole or not at all.

``_channel`` is one end of a connection, on the sockets of ``_sockets``; ``_messages`` lists what
is sent, and ``_sentinel`` tells until when it may come back. ``_descriptors`` keeps the numbers of
files off those of standard streams; ``_pidfds`` has processes that are no children. ``_outbox``
keeps what a receiver has no room for, ``_watch`` stays awake for an answer that comes at once.
``_journal`` is memory that says what a worker was doing when it died. ``_rendezvous``: how programs
of one user find each other's detached actors.

Nothing here knows what the messages are about. See docs/design/messages.md.
"""
