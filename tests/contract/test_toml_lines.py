from __future__ import annotations

from contract.toml_lines import key_lines, line_of

TEXT = r"""# [not.a.table]
a = ###x
b = 1 \#"#
###
"c.d".e = 'k # ]'  # comment
f = [1, [2, {x = 1}],
  ###
]###, 3]

[g.h]
i.j = 2020-01-01 00:00:00

[[k]]
l = 1
[[k]]
[[k.m]]
n = {o = [], p.q = '''
'''}
""".replace("###", '"' * 3)


def test_lines_of_keys_tables_and_elements() -> None:
    assert key_lines(TEXT) == {
        ("a",): 2,
        ("c.d",): 5,
        ("c.d", "e"): 5,
        ("f",): 6,
        ("f", 0): 6,
        ("f", 1): 6,
        ("f", 1, 0): 6,
        ("f", 1, 1): 6,
        ("f", 1, 1, "x"): 6,
        ("f", 2): 7,
        ("f", 3): 8,
        ("g",): 10,
        ("g", "h"): 10,
        ("g", "h", "i"): 11,
        ("g", "h", "i", "j"): 11,
        ("k",): 13,
        ("k", 0): 13,
        ("k", 0, "l"): 14,
        ("k", 1): 15,
        ("k", 1, "m"): 16,
        ("k", 1, "m", 0): 16,
        ("k", 1, "m", 0, "n"): 17,
        ("k", 1, "m", 0, "n", "o"): 17,
        ("k", 1, "m", 0, "n", "p"): 17,
        ("k", 1, "m", 0, "n", "p", "q"): 17,
    }


def test_what_is_missing_has_the_line_of_what_is_around_it() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("k", 1, "m", 0, "missing")) == 16
    assert line_of(lines, ("missing", "too")) == 1
