"""Variables of the program's own modules, which workers get as they were when the pool was made.

Forked children have what the program has set in its modules since it imported them: a limit from
the command line, a table that was read, a function that was replaced. A worker imports these
modules anew. So the data among their variables is sent, and put into a module where, and when, a
task imports it.

Only data: numbers, texts, containers, instances of the program's own classes; functions and classes
that the program has put there; and small objects of other classes, if pickle itself carries them.
What else a module made when it was imported, it makes again: locks, connections, caches with open
files. But if the program has bound such an object since, or one that is too large, the pool forks
the program. They belong together: ``_ready = True`` without ``_database`` would be a state that no
process ever had. The attributes of a class of the module are a unit of their own; module and
classes are called *spaces*.

`_spaces` and `_snapshot` find the variables, `_data` tells which of them can be sent, `_assigned`
what bound them. In workers `_restored` puts them into the modules, which `_contents` fills objects
for, and `_views` lets later imports see what earlier ones have left. `_primitives`, `_caches`,
`_once`, `_large` and `_installed` find what tasks can only have by inheriting it.
"""
