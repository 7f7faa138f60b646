"""Classes that say that they are of another module than the one that has them."""

from __future__ import annotations

from pathlib import Path

from poolscripts import run_program

MODULE = """
class Outcome(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.text = text

class Failed(Outcome):
    __module__ = "builtins"

class Skipped(Outcome):
    __module__ = "builtins"
    def __init__(self, text, where=None):
        super().__init__(text)
        self.where = where

class Late:
    __module__ = "string"
    def work(self, n):
        return n
"""


def test_they_are_the_same_in_tasks_and_in_what_comes_back(tmp_path: Path) -> None:
    (tmp_path / "outcomes.py").write_text(MODULE)
    (tmp_path / "tasks.py").write_text(
        "import outcomes\n"
        "def end(kind):\n"
        "    raise getattr(outcomes, kind)('the end')\n"
        "def same(kinds):\n"
        "    return [kind is getattr(outcomes, kind.__name__) for kind in kinds]\n"
    )
    program = """
    import outcomes, tasks
    from pool import Pool

    def end(kind):
        raise getattr(outcomes, kind)("the end")

    kinds = [outcomes.Failed, outcomes.Skipped, outcomes.Late]
    with Pool(1) as p:
        for function in end, tasks.end:
            for kind in kinds[:2]:
                try:
                    p.apply(function, (kind.__name__,))
                except kind as error:
                    print(type(error) is kind, error.text)
        print(p.map(tasks.same, [kinds]), p.map(lambda n: kinds[n], range(3), 1) == kinds)
        print(type(p.apply(outcomes.Late)) is outcomes.Late, p.map(outcomes.Late().work, [7]))
    """
    done = run_program(program, tmp_path).succeeded()
    assert done == "True the end\n" * 4 + "[[True, True, True]] True\nTrue [7]\n"


def test_one_that_no_module_has_travels_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "maker.py").write_text(
        "def make():\n"
        "    class Hidden:\n"
        "        def get(self):\n"
        "            return 7\n"
        "    Hidden.__module__, Hidden.__qualname__ = 'builtins', 'Hidden'\n"
        "    return Hidden\n"
    )
    program = """
    import maker
    from pool import Pool
    Hidden = maker.make()
    with Pool(1) as p:
        print(p.map(lambda hidden: hidden.get(), [Hidden()]), type(p.apply(Hidden)) is Hidden)
    """
    assert run_program(program, tmp_path).succeeded() == "[7] True\n"
