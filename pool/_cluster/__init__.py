"""A Pool on the machines of a cluster, whose placing of work is that of Ray or Dask.

::

    this machine                             |  a machine of the cluster
    Pool > engine > scheduler > crew > leaf  |  agent > engine > scheduler > crew > one worker

Each worker of the pool is an *agent*: an object that Ray (an actor) or Dask (a result that is kept)
holds on some machine, with a pool of one worker of its own. What the scheduler here decides is a
call of an agent there, and what a task raises, how long it may take, when it is cancelled and who
has died is settled by the agent, as for any pool on its machine. Agents read nothing of what they
pass on: their processes need none of the program's modules, and are not changed by it.

* `_messages`: what is said to agents, and what they answer.
* There: `_agent`, with `_errands` (messages that are being worked off) and `_raw` (outcomes that
  are passed on unread).
* Here: `_engines` (what a Pool has, and its connection), `_engine`, `_crew` (asks for agents and
  calls them), `_outcomes` (what becomes of answers) and `_peers` (the books of one worker, and what
  is asked of the systems).
* `_ray` and `_dask`: one leaf for each system, which knows how to place an agent, to call it, and
  to notice that it is lost.

See docs/design/cluster.md.
"""
