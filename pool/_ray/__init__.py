"""Ray's words: functions, classes and handles that users see.

``_lifetime`` starts and ends the runtime (`init`, `shutdown`), ``_api`` has the other functions
(`remote`, `get`, `wait`, ...), ``_functions`` and ``_classes`` what `remote` makes and
``_other_ways`` to call it, ``_generators``, ``_as_completed`` and ``_actor_pool`` what users hold
besides, ``_facts`` and ``_inspection`` what they can ask, ``_serializers`` how they have a class
pickled.
Options and arguments are checked here (``_options``, ``_strategies``, ``_signatures``, ``_kinds``);
everything else goes to the home of this process, see `pool._objects._home`. ``_absent`` says what
is not here, and what to do instead.
"""
