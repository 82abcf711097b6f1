"""Call chains of records, as ``trace-cmd hist`` puts them together."""

from harken.analysis.call_chains import DEPTH, Collector, Tree
from harken.render.call_chains import chains_text

NAMES = {1: "main", 2: "read", 3: "copy", 4: "write"}


def collector(together=False):
    tree = Tree(together)
    return tree, Collector(tree, lambda address: (address, NAMES[address]) if address in NAMES else None)


def shape(chain):
    return chain.name, chain.count, [shape(caller) for caller in chain.callers]


def test_calls_of_the_function_tracer():
    tree, found = collector()
    found.function(7, 2, 1)
    found.function(7, 3, 2)
    found.function(7, 4, 1)  # back in main
    found.finish()
    assert [shape(chain) for chain in tree.sorted()] == [
        ("write", 1, [("main", 1, [])]),
        ("copy", 1, [("read", 1, [("main", 1, [])])]),
    ]


def test_tasks_are_told_apart_or_not():
    for together, expected in ((False, 2), (True, 1)):
        tree, found = collector(together)
        for pid in (7, 8):
            found.function(pid, 2, 1)
        found.finish()
        assert len(tree.sorted()) == expected
        assert tree.total == 2


def test_calls_of_the_graph_end_where_their_depth_says():
    tree, found = collector()
    found.entry(7, 1, 0)
    found.entry(7, 2, 1)
    found.exit(7, 1)
    found.entry(7, 3, 1)
    found.exit(7, 1)
    found.exit(7, 0)
    found.finish()
    assert ("copy", 1, [("main", 1, [])]) in [shape(chain) for chain in tree.sorted()]


def test_a_stack_says_where_an_event_came_from():
    tree, found = collector()
    found.event(7, "switch")
    found.stack(7, [3, 2, 1, 99])
    chain = tree.sorted()[0]
    assert chain.event
    assert shape(chain) == ("switch", 1, [("copy", 1, [("read", 1, [("main", 1, [])])])])


def test_a_stack_of_another_task_is_not_taken():
    tree, found = collector()
    found.event(7, "switch")
    found.stack(8, [3])
    found.finish()
    assert tree.total == 0


def test_depths_of_a_damaged_file_are_bounded():
    tree, found = collector()
    for depth in range(3 * DEPTH):
        found.entry(7, 1 + depth % 4, depth)
    found.finish()
    assert chains_text(tree, str).count("\n") < 4 * DEPTH


def test_forks_within_forks_are_drawn():
    tree = Tree()
    for calls in ("adf", "adf", "adg", "bdg", "cg"):
        tree.add(1, [(name, name) for name in calls], True)
    assert chains_text(tree, lambda pid: "t").split("\n") == [
        "  %60.00  (1) t                              g #3",
        "         |",
        "         --- *g*",
        "            |",
        "            |--%66.67-- d  # 2",
        "            |            |",
        "            |            |--%50.00-- b  # 1",
        "            |            |",
        "            |            |--%50.00-- a  # 1",
        "            |",
        "            |--%33.33-- c  # 1",
        "",
        "  %40.00  (1) t                              f #2",
        "         |",
        "         --- *f*",
        "          d",
        "          a",
        "",
    ]
