"""The tree: precedence, statements, and what is hard to tell apart."""

from __future__ import annotations

import pytest

from harken.base.diagnostics import Source
from harken.base.errors import SourceError
from harken.languages.bpftrace import ast as A
from harken.languages.bpftrace.parser import parse


def show(node: object) -> str:
    """A node as an S-expression, spans left out."""
    if isinstance(node, tuple):
        return "[" + " ".join(show(item) for item in node) + "]"
    if isinstance(node, A.IntLit | A.StrLit | A.BoolLit):
        return repr(node.value)
    if isinstance(node, A.Var | A.Name):
        return node.name
    if isinstance(node, A.Map):
        return node.name + ("" if node.keys is None else show(node.keys))
    if isinstance(node, A.TypeName):
        return node.name + "*" * node.stars + "".join(f"[{size or ''}]" for size in node.dims) + (show(node.parts) if node.parts else "")
    if isinstance(node, A.Node):
        fields = [getattr(node, name) for name in type(node)._fields if name not in ("span", "name_span")]
        return f"({type(node).__name__} {' '.join(show(field) for field in fields)})"
    return str(node)


def expression(text: str) -> str:
    statement = parse(Source("stdin", f"BEGIN {{ {text}; }}")).probes[0].body[0]
    assert isinstance(statement, A.ExprStmt)
    return show(statement.value)


def statement(text: str) -> str:
    return show(parse(Source("stdin", f"BEGIN {{ {text} }}")).probes[0].body[0])


@pytest.mark.parametrize(
    "text, tree",
    [
        ("1 + 2 * 3", "(Binary + 1 (Binary * 2 3))"),
        ("1 - 2 - 3", "(Binary - (Binary - 1 2) 3)"),
        ("1 << 2 + 3 < 4", "(Binary < (Binary << 1 (Binary + 2 3)) 4)"),
        ("1 & 2 == 3", "(Binary & 1 (Binary == 2 3))"),
        ("1 || 2 && 3 | 4 ^ 5 & 6", "(Binary || 1 (Binary && 2 (Binary | 3 (Binary ^ 4 (Binary & 5 6)))))"),
        ("1 ? 2 : 3 ? 4 : 5", "(Ternary 1 2 (Ternary 3 4 5))"),
        ("1 ?: 2", "(Ternary 1 None 2)"),
        ("-1 - -2", "(Binary - -1 -2)"),
        ("!~-$x", "(Unary ! (Unary ~ (Unary - $x False) False) False)"),
        ("*$p + 1", "(Binary + (Unary * $p False) 1)"),
        ("$x++ + ++$x", "(Binary + (Unary ++ $x True) (Unary ++ $x False))"),
        ("args.a->b[2].c", "(Member (Index (Member (Member args a False) b True) 2) c False)"),
        ("(uint32)$x + 1", "(Binary + (Cast uint32 $x) 1)"),
        ("(struct a *)$x->b", "(Cast struct a* (Member $x b True))"),
        ("((struct a *)$x)->b", "(Member (Cast struct a* $x) b True)"),
        ("(pid) * tid", "(Binary * pid tid)"),
        ("(pid)", "pid"),
        ("(size_t)5", "(Cast size_t 5)"),
        ("(unsigned long)5", "(Cast uint64 5)"),
        ("(uint8[4])$x", "(Cast uint8[4] $x)"),
        ("(1, 2)", "(Tuple [1 2])"),
        ("(1,)", "(Tuple [1])"),
        ("()", "(Tuple [])"),
        ("(1, (2, 3)).1.0", "(Member (Member (Tuple [1 (Tuple [2 3])]) 1 False) 0 False)"),
        ("(a=1, b=2)", "(RecordLit [a b] [1 2])"),
        ("@", "@"),
        ("@x[1, pid]", "@x[1 pid]"),
        ("f(1, g())", "(Call f [1 (Call g [])])"),
        ('"a" "b"', "'ab'"),
        ("sizeof(struct a)", "(Sizeof struct a)"),
        ("sizeof($x)", "(Sizeof $x)"),
        ("sizeof(pid)", "(Sizeof pid)"),
        ("offsetof(struct a, b.c)", "(Offsetof struct a b.c)"),
        ("if 1 { 2 } else { 3 }", ""),
    ],
)
def test_expressions(text: str, tree: str) -> None:
    if tree:
        assert expression(text) == tree


@pytest.mark.parametrize(
    "text, tree",
    [
        ("$x = 1;", "(Assign $x  1)"),
        ("@x[1] += 2", "(Assign @x[1] + 2)"),
        ("$x <<= 2;", "(Assign $x << 2)"),
        ("let $x;", "(Let $x None None)"),
        ("let $x: uint8[4] = 1;", "(Let $x uint8[4] 1)"),
        ("if (1) { 2; } else if (3) { 4; } else { 5; }", "(If 1 [(ExprStmt 2)] [(If 3 [(ExprStmt 4)] [(ExprStmt 5)])])"),
        ("if 1 == 2 { }", "(If (Binary == 1 2) [] [])"),
        ("while ($x < 5) { $x++ }", "(While (Binary < $x 5) [(ExprStmt (Unary ++ $x True))])"),
        ("unroll(5) { }", "(Unroll 5 [])"),
        ("unroll 5 { }", ""),
        ("for ($kv : @m) { }", "(ForMap $kv @m [])"),
        ("for $i : 0..5 { }", "(ForRange $i 0 5 [])"),
        ("return;", "(Jump return None)"),
        ("break;", "(Jump break None)"),
        ("{ 1; }", "(Block [(ExprStmt 1)])"),
        ("_ = 5;", "(Assign _  5)"),
        ("$x = if 1 { 2 } else { 3 };", "(Assign $x  (IfExpr 1 (BlockExpr [] 2) (BlockExpr [] 3)))"),
        ("$x = { $y = 1; $y };", "(Assign $x  (BlockExpr [(Assign $y  1)] $y))"),
    ],
)
def test_statements(text: str, tree: str) -> None:
    if tree:
        assert statement(text) == tree


def test_program() -> None:
    text = (
        "#!/usr/bin/env harken\n#include <a.h>\nstruct s { int a; }\nenum e { A, };\n"
        'config = { max_strlen = 5; a = "b" c = true }\nimport "x.bt";\nlet @m = lruhash(5);\n'
        "macro f($a) { { $a } }\nfirst=BEGIN { } i:s:1 /10 / 2/ { 1 } END { }"
    )
    with pytest.raises(SourceError):
        parse(Source("stdin", text))
    program = parse(Source("stdin", text.replace('"b" c', '"b"; c')))
    assert [(one.key, one.value) for one in program.settings] == [("max_strlen", 5), ("a", "b"), ("c", True)]
    assert [(one.name, one.type, one.entries) for one in program.maps] == [("@m", "lruhash", 5)]
    assert [one.what for one in program.unsupported] == [
        "import",
        "macro f",
    ]
    assert [(one.name, [p.text for p in one.points]) for one in program.probes] == [("first", ["BEGIN"]), ("", ["i:s:1"]), ("", ["END"])]
    assert show(program.probes[1].filter) == "(Binary / 10 2)"


def test_division_in_filters() -> None:
    program = parse(Source("stdin", "BEGIN /(pid / 2) == @x[4 / 2]/ { }"))
    assert show(program.probes[0].filter) == "(Binary == (Binary / pid 2) @x[(Binary / 4 2)])"


def test_parameters_in_attach_points() -> None:
    assert parse(Source("stdin", "i:ms:$1 { } BEG$2 { }"), ("5", "IN")).probes[1].points[0].text == "BEGIN"
    with pytest.raises(SourceError, match=r"\$3"):
        parse(Source("stdin", "i:ms:$3 { }"), ("5",))


def test_spans_cover_their_text() -> None:
    source = Source("stdin", "BEGIN /pid == 1/ { $x = f(1, @m[2]) ? (a, 3) : str(arg0 + 1)->b; if ($x) { @y[1] = count(); } }")
    program = parse(source)
    texts = {node.span.text for node in A.walk(program.probes)}
    for wanted in (
        "pid == 1",
        "f(1, @m[2])",
        "@m[2]",
        "(a, 3)",
        "arg0 + 1",
        "str(arg0 + 1)->b",
        "@y[1] = count()",
        "if ($x) { @y[1] = count(); }",
    ):
        assert wanted in texts


@pytest.mark.parametrize(
    "text, column",
    [
        ("BEGIN { 1 + }", 13),
        ("BEGIN { f(1 }", 13),
        ("BEGIN { $x = }", 14),
        ("BEGIN { 5 = 1; }", 9),
        ("BEGIN { for (x : @m) { } }", 14),
        ("BEGIN { let @x; }", 13),
        ("BEGIN // { }", 13),
        ("BEGIN { 1 2 }", 11),
        ("{ }", 1),
    ],
)
def test_place_of_syntax_errors(text: str, column: int) -> None:
    with pytest.raises(SourceError) as error:
        parse(Source("stdin", text))
    span = error.value.diagnostics[0].span
    assert span is not None
    assert span.start + 1 == column


def test_preprocessor() -> None:
    text = (
        "#ifndef BPFTRACE_HAVE_BTF\n#include <linux/a.h>\n#ifdef X\n#else\n#endif\n#else\n"
        "#include <sys/socket.h>\n#define N (3 + \\\n 4)\n#endif\n"
        "#ifdef N\n#define M N * 2\n#endif\n#undef AF_INET6\nBEGIN { M; AF_INET; AF_INET6; }"
    )
    program = parse(Source("stdin", text))
    assert [one.header for one in program.includes] == ["sys/socket.h"]
    assert not program.unsupported
    assert show(program.probes[0].body) == "[(ExprStmt (Binary * (Binary + 3 4) 2)) (ExprStmt 2) (ExprStmt AF_INET6)]"
    assert [one.header for one in parse(Source("stdin", text), defined=frozenset()).includes] == ["linux/a.h"]


@pytest.mark.parametrize(
    "text", ["#ifdef A\nBEGIN { }", "#ifndef A\nBEGIN { }", "#define A 1 +\nBEGIN { A; }", "#define A 1; 2\nBEGIN { A; }"]
)
def test_wrong_preprocessor(text: str) -> None:
    with pytest.raises(SourceError):
        parse(Source("stdin", text))


def test_definitions_that_name_themselves() -> None:
    assert show(parse(Source("stdin", "#define A B\n#define B A\nBEGIN { A; }")).probes[0].body) == "[(ExprStmt A)]"
