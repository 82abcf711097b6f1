"""Random C programs whose results two compilers must agree on: ours, run in ``interpreter``, and the machine's own.

Programs avoid what C leaves undefined: shift counts and indices are masked, divisors are never 0, and an expression has at most one
effect.  Signed overflow is meant to wrap (``-fwrapv``).  The same seed gives the same text.

Example:
    >>> text = program(7)
    >>> text == program(7), "long long f7(" in text
    (True, True)
"""

from __future__ import annotations

from random import Random

__all__ = ("PRELUDE", "program")

#: what stands before the programs of one file
PRELUDE = """
struct inner { short low, high; };
struct mixed {
  int a; unsigned b:5; int c:7; unsigned short d;
  union { unsigned u; struct inner halves; unsigned char bytes[4]; };
  unsigned long long e:33; signed char f[4]; _Bool g; long long h;
};
struct pair { unsigned long long first; int second; };
static const unsigned short table_of_numbers[8] = { 3, 1, 4, 1, 5, 9, [6] = 65000, 6 };
"""
_INTEGERS = (
    "signed char", "unsigned char", "short", "unsigned short", "int", "unsigned", "long long", "unsigned long long", "_Bool",
)  # fmt: skip
_ARITHMETIC = ("+", "-", "*", "&", "|", "^")
_COMPARE = ("==", "!=", "<", "<=", ">", ">=")
_MEMBERS = ("a", "b", "c", "d", "u", "halves.low", "halves.high", "e", "g", "h")


class _Writer:
    """One program: ``names`` are the variables that expressions may read, ``targets`` those that statements may set."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.names: list[str] = ["a0", "a1", "a2"]
        self.targets: list[str] = []
        self.structs: list[str] = []
        self.arrays: list[str] = []
        self.count = 0
        self.lines: list[str] = []
        self.depth = 1
        self.helpers: list[str] = []

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    # -- expressions
    def constant(self) -> str:
        kind = self.random.randrange(6)
        if kind == 0:
            return str(self.random.choice((0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2147483647)))
        if kind == 1:
            return f"(-{self.random.randrange(1, 1000)})"
        if kind == 2:
            return f"{self.random.getrandbits(32)}u"
        if kind == 3:
            return f"{self.random.getrandbits(64)}ull"
        if kind == 4:
            return f"'{self.random.choice('azAZ09')}'"
        return str(self.random.randrange(100))

    def leaf(self) -> str:
        kind = self.random.randrange(10)
        if kind < 5:
            return self.random.choice(self.names)
        if kind < 7 or not self.structs:
            return self.constant()
        if kind == 7:
            name = f"{self.random.choice(self.structs)}.{self.random.choice(_MEMBERS)}"
            # a bitfield wider than int has its own width in gcc's arithmetic, its declared type in clang's
            return f"(unsigned long long){name}" if name.endswith(".e") else name
        if kind == 8 and self.arrays:
            return f"{self.random.choice(self.arrays)}[{self.random.choice(self.names)} & 7]"
        return f"{self.random.choice(self.structs)}.f[{self.random.choice(self.names)} & 3]"

    def expression(self, depth: int = 3) -> str:
        if depth <= 0:
            return self.leaf()
        kind = self.random.randrange(16)
        a = self.expression(depth - 1)
        if kind < 6:
            return f"({a} {self.random.choice(_ARITHMETIC)} {self.expression(depth - 1)})"
        if kind == 6:
            return f"({a} {self.random.choice(_COMPARE)} {self.expression(depth - 1)})"
        if kind == 7:
            return f"({a} << ({self.expression(depth - 1)} & 7))"
        if kind == 8:
            return f"({a} >> ({self.expression(depth - 1)} & 7))"
        if kind == 9:
            return f"({a} {self.random.choice('/%')} (({self.expression(depth - 1)} & 0xff) | 1))"
        if kind == 10:
            return f"({self.random.choice(('-', '~', '!', '+'))}{a})"
        if kind == 11:
            return f"(({self.random.choice(_INTEGERS)})({a}))"
        if kind == 12:
            return f"({self.expression(depth - 1)} ? {a} : {self.expression(depth - 1)})"
        if kind == 13:
            return f"({a} {self.random.choice(('&&', '||'))} {self.expression(depth - 1)})"
        if kind == 14:
            return self.random.choice((f"({a} ?: {self.leaf()})", f"({self.leaf()}, {a})", f"table_of_numbers[({a}) & 7]"))
        if self.helpers and depth > 1:
            return f"{self.random.choice(self.helpers)}({a}, {self.leaf()})"
        name = self.fresh("v")
        return f"({{ {self.random.choice(_INTEGERS)} {name} = {a}; {name} + {self.leaf()}; }})"

    # -- statements
    def declare(self) -> None:
        kind = self.random.randrange(8)
        if kind < 5 or len(self.structs) > 2:
            name, type = self.fresh("x"), self.random.choice(_INTEGERS)
            self.line(f"{type} {name} = {self.expression(2)};")
            self.names.append(name)
            self.targets.append(name)
        elif kind == 5:
            name, type = self.fresh("array"), self.random.choice(_INTEGERS[:8])
            self.line(f"{type} {name}[8] = {{ {self.expression(1)}, [3] = {self.expression(1)}, {self.constant()} }};")
            self.arrays.append(name)
        else:
            name = self.fresh("s")
            init = f"{{ .a = {self.expression(1)}, .c = {self.leaf()}, .e = {self.leaf()}, .f = {{ 1, [2] = {self.leaf()} }} }}"
            self.line(f"struct mixed {name} = {init if not self.structs else self.random.choice((init, self.structs[0]))};")
            self.structs.append(name)

    def assign(self) -> None:
        target = self.target()
        kind = self.random.randrange(6)
        if kind < 3:
            self.line(f"{target} = {self.expression()};")
        elif kind == 3:
            self.line(f"{target} {self.random.choice(_ARITHMETIC)}= {self.expression(2)};")
        elif kind == 4:
            self.line(f"{target} {self.random.choice(('<<', '>>'))}= {self.expression(1)} & 7;")
        else:
            self.line(self.random.choice((f"{target}++;", f"--{target};", f"{target} /= ({self.leaf()} & 0x7f) | 1;")))

    def target(self) -> str:
        kind = self.random.randrange(8)
        if kind < 5 or not self.structs:
            return self.random.choice(self.targets)
        if kind == 5 and self.arrays:
            return f"{self.random.choice(self.arrays)}[{self.random.choice(self.names)} & 7]"
        return f"{self.random.choice(self.structs)}.{self.random.choice((*_MEMBERS, 'f[1]', 'bytes[2]'))}"

    def block(self, statements: int) -> None:
        """Statements in a scope of their own."""
        saved = [list(part) for part in (self.names, self.targets, self.structs, self.arrays)]
        self.depth += 1
        for _ in range(statements):
            self.statement()
        self.depth -= 1
        self.names, self.targets, self.structs, self.arrays = saved

    def statement(self) -> None:
        deep = self.depth > 3
        kind = self.random.randrange(8 if deep else 20)
        if kind < 6:
            self.assign()
        elif kind < 8:
            self.declare()
        elif kind < 11:
            self.line(f"if ({self.expression()}) {{")
            self.block(self.random.randrange(1, 4))
            if self.random.random() < 0.5:
                self.line("} else {")
                self.block(self.random.randrange(1, 3))
            self.line("}")
        elif kind < 13:
            self.loop()
        elif kind == 13:
            self.switch()
        elif kind == 14:
            self.jumps()
        elif kind == 15 and self.structs:
            self.structures()
        elif kind == 16:
            self.pointers()
        elif kind == 17:
            self.wide()
        elif kind == 18 and len(self.structs) > 1:
            one, two = self.random.sample(self.structs, 2)
            self.line(f"if (__builtin_memcmp(&{one}.f, &{two}.f, 4) < 0) {self.random.choice(self.targets)} += 3;")
            self.line(f"__builtin_memcpy(&{one}.u, &{two}.a, 4);")
            self.line(f"__builtin_memset({two}.f, {self.random.randrange(256)}, {self.random.randrange(1, 5)});")
        else:
            self.assign()

    def loop(self) -> None:
        name = self.fresh("i")
        count = self.random.randrange(1, 6)
        form = self.random.randrange(3)
        if form == 0:
            self.line(f"for (int {name} = 0; {name} < {count}; {name}++) {{")
        elif form == 1:
            self.line(f"unsigned char {name} = {count};")
            self.line(f"while ({name}-- > 0) {{")
        else:
            self.line(f"long long {name} = 0;")
            self.line("do {")
        self.names.append(name)
        self.block(self.random.randrange(1, 3))
        if self.random.random() < 0.5:
            self.line(f"  if ({self.expression(2)}) {self.random.choice(('continue', 'break'))};")
            self.line(f"  {self.random.choice(self.targets)} ^= {name};")
        self.line(f"}} while (++{name} < {count});" if form == 2 else "}")
        if form == 0:
            self.names.remove(name)

    def switch(self) -> None:
        self.line(f"switch ({self.expression(2)} & 15) {{")
        numbers = list(range(16))
        self.random.shuffle(numbers)
        for number in numbers[: self.random.randrange(1, 6)]:
            self.line(f"case {number}:")
            self.block(1)
            if self.random.random() < 0.6:
                self.line("  break;")
        if self.random.random() < 0.5:
            self.line("case 100 ... 200:")
            self.line("case -5 ... -3:")
        if self.random.random() < 0.7:
            self.line("default:")
            self.block(1)
        self.line("  ;")
        self.line("}")

    def jumps(self) -> None:
        name, label = self.fresh("k"), self.fresh("again")
        self.line(f"int {name} = 0;")
        self.line(f"{label}: ;")
        self.block(1)
        self.line(f"if (++{name} < {self.random.randrange(1, 5)} && {self.expression(1)}) goto {label};")
        skip = self.fresh("skip")
        self.line(f"if ({self.expression(2)}) goto {skip};")
        self.assign()
        self.line(f"{skip}: ;")

    def structures(self) -> None:
        name = self.random.choice(self.structs)
        kind = self.random.randrange(4)
        if kind == 0:
            self.line(f"{name} = turned({name}, {self.expression(1)});")
        elif kind == 1:
            self.line(f"{name} = (struct mixed){{ .h = {self.leaf()}, .halves = {{ .high = {self.leaf()} }}, .b = {self.leaf()} }};")
        elif kind == 2:
            other = self.random.choice(self.structs)
            self.line(f"{name} = {self.expression(1)} ? {name} : {other};")
        else:
            target = self.random.choice(self.targets)
            self.line(f"{target} = made({self.leaf()}, {self.leaf()}).second;")
            self.line(f"{target} += taken(&{name}, made({self.leaf()}, 3));")

    def pointers(self) -> None:
        name = self.fresh("p")
        types = ("int", "unsigned short", "unsigned long long")
        type = self.random.choice(types)
        one, two = self.fresh("x"), self.fresh("x")
        self.line(f"{type} {one} = {self.expression(1)}, {two}[4] = {{ 1, {self.leaf()}, 3 }};")
        self.line(f"{type} *{name} = {self.expression(1)} ? &{one} : &{two}[{self.leaf()} & 3];")
        self.line(f"*{name} {self.random.choice(_ARITHMETIC)}= {self.expression(1)};")
        self.line(f"{name} = {two} + 1;")
        self.line(f"*{name}++ = {self.leaf()}; {name}[1] -= {self.leaf()}; {one} += {name} - {two};")
        self.names += [one, f"{two}[{self.random.randrange(4)}]"]
        self.targets.append(one)

    def wide(self) -> None:
        name = self.fresh("w")
        sign = self.random.choice(("unsigned ", ""))
        self.line(f"{sign}__int128 {name} = {self.leaf()};")
        self.line(f"{name} <<= {self.random.randrange(1, 127)}; {name} {self.random.choice('+-|^&')}= {self.leaf()};")
        self.line(f"if ({name} {self.random.choice(_COMPARE)} {self.leaf()}) {self.random.choice(self.targets)} += 5;")
        number = self.fresh("x")
        self.line(f"unsigned long long {number} = (unsigned long long)({name} >> {self.random.randrange(1, 127)});")
        self.names.append(number)

    def helper(self) -> str:
        """A function of two numbers."""
        name = f"g{self.seed}_{self.fresh('h')}"
        types = [self.random.choice(_INTEGERS) for _ in range(3)]
        saved, self.names = self.names, ["x", "y"]
        body = f"if ({self.expression(1)}) return {self.expression(2)}; return {self.expression(2)};"
        self.names = saved
        return f"static {types[0]} {name}({types[1]} x, {types[2]} y) {{ {body} }}\n"

    def text(self) -> str:
        out = ""
        for _ in range(self.random.randrange(3)):
            made = self.helper()
            self.helpers.append(made.split("(")[0].split()[-1])
            out += made
        for _ in range(4):
            self.declare()
        if not self.targets:
            self.line("int x0 = 1;")
            self.names.append("x0")
            self.targets.append("x0")
        for _ in range(self.random.randrange(3, 8)):
            self.statement()
        body = "\n".join(self.lines)
        parts = [*self.names]
        for name in self.structs:
            parts += [f"{name}.{member}" for member in (*_MEMBERS, "f[0]", "f[1]", "f[2]", "f[3]")]
        for name in self.arrays:
            parts += [f"{name}[{i}]" for i in range(8)]
        parts = [part for part in parts if self.random.random() < 0.6]
        mixed = "\n".join(f"  hash = hash * 31 + (unsigned long long)({part});" for part in parts)
        name = f"f{self.seed}"
        return (
            f"{out}long long {name}(unsigned long long *ctx, unsigned long long a0, unsigned a1, int a2)\n{{\n"
            f"  unsigned long long hash = 7;\n{body}\n{mixed}\n  return hash;\n}}\n"
        )


#: functions that the programs call
HELPERS = """
static struct mixed turned(struct mixed s, int x)
{
  s.a += x; s.b = s.c; s.e -= x; s.f[1] = s.f[0]; s.halves.low ^= s.halves.high; s.g = x;
  return s;
}
static struct pair made(unsigned long long first, int second) { return (struct pair){ first, second + 1 }; }
static inline unsigned taken(struct mixed *s, struct pair p) { s->d += p.second; return s->d + p.first; }
"""
PRELUDE += HELPERS


def program(seed: int) -> str:
    """The text of a function ``long long f<seed>(unsigned long long *ctx, unsigned long long a0, unsigned a1, int a2)``."""
    return _Writer(seed).text()
