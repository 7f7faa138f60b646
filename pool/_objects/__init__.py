"""Objects, actors and resources as pure books: no process, socket or clock."""
