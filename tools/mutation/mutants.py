"""The mutants of a module: those of mutmut's operators, and of three others.

mutmut leaves out decorated functions (every property, and functions protected from Ctrl-C) and
code outside of functions (the fields of `Config`), and no operator of it removes a statement. So
this module applies mutmut's operators to whole modules.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tools.exploring.bugs import Bug

# Imported by name, because type checkers run without mutmut.
OPERATORS: list[tuple[type[cst.CSTNode], Any]] = [
    *importlib.import_module("mutmut.mutation.mutators").mutation_operators
]


@attrs.frozen
class Mutant:
    """One change of one module.

    Attributes:
        place: qualified name of the function or class; empty at the level of the module.
        change: the lines before and after the change, as one line.
        code: the source of the whole changed module.
        lines: the lines of the statement; only tests that run one of them can fail.
        is_in_body: whether only the body of the function at ``place`` differs.
    """

    place: str
    change: str
    code: str
    lines: frozenset[int]
    is_in_body: bool

    def key(self, module: str) -> str:
        """Return the name of this mutant among those of all modules."""
        return f"{module} {self.place}: {self.change}"


def _drop_statement(node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    if isinstance(node, cst.Expr | cst.Raise | cst.Del) or (
        isinstance(node, cst.Assign)
        and isinstance(node.targets[0].target, cst.Attribute)
        and _is_false(node.value)
    ):
        yield cst.Pass()


def _is_false(value: cst.CSTNode | None) -> bool:
    return isinstance(value, cst.Name) and value.value in ("None", "False")


def _return_nothing(node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    if isinstance(node, cst.Return):
        if node.value is None:
            yield cst.Pass()
        elif not _is_false(node.value):
            yield node.with_changes(value=cst.Name("None"))


def _decide_condition(node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    if isinstance(node, cst.If | cst.CompIf):
        for name in ("True", "False"):
            yield node.with_changes(
                test=cst.Name(name), whitespace_before_test=cst.SimpleWhitespace(" ")
            )


def _mutations(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.SimpleString):
        # Texts of messages are not mutated, and names are mutated in one way instead of three.
        if " " in node.raw_value or len(node.quote) == 3:
            return
        yield node.with_changes(value=f"{node.prefix}{node.quote}XX{node.raw_value}XX{node.quote}")
        return
    for kind, operator in OPERATORS:
        # None instead of False, or "" instead of None, makes no difference.
        if isinstance(node, cst.Assign | cst.AnnAssign) and _is_false(node.value):
            continue
        if isinstance(node, kind):
            yield from (made for made in operator(node) if not _is_idle(node, made))
    for operator in (_drop_statement, _return_nothing, _decide_condition):
        yield from operator(node)


def _is_idle(node: cst.CSTNode, mutated: cst.CSTNode) -> bool:
    """Return whether a mutant cannot show a weakness of the tests.

    A call without one of its positional arguments is nearly always a TypeError, and None instead
    of False makes no difference.
    """
    if not isinstance(node, cst.Call) or not isinstance(mutated, cst.Call):
        return False
    before, after = ([arg for arg in call.args if arg.keyword is None] for call in (node, mutated))
    if len(before) != len(after):
        return True
    return len(node.args) == len(mutated.args) and any(
        _is_false(one.value) and one is not other
        for one, other in zip(node.args, mutated.args, strict=True)
    )


def _is_left_alone(node: cst.CSTNode) -> bool:
    """Return whether a node never runs, or is a docstring."""
    match node:
        case cst.Annotation() | cst.Import() | cst.ImportFrom() | cst.TypeAlias():
            return True
        case cst.If(test=cst.Name(value="TYPE_CHECKING")):
            return True
        case cst.Expr(value=cst.SimpleString() | cst.ConcatenatedString()):
            return True
        case cst.Call(func=cst.Name(value="isinstance" | "len")):
            return True
        case cst.ClassDef(bases=bases):
            # The methods of a protocol have no code.
            kinds = [base.value for base in bases]
            return any(
                isinstance(kind, cst.Name) and kind.value in ("Protocol", "TypedDict")
                for kind in kinds
            )
    return False


class _Visitor(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider, ParentNodeProvider)

    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, str, frozenset[int], bool]] = []
        self._names: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _is_left_alone(node):
            return False
        for mutated in _mutations(node):
            self.found.append(
                (node, mutated, ".".join(self._names), self._lines(node), self._is_in_body(node))
            )
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._names.append(node.name.value)
        return True

    def on_leave(self, node: cst.CSTNode) -> None:
        if isinstance(node, cst.FunctionDef | cst.ClassDef) and self._names:
            self._names.pop()

    def _is_in_body(self, node: cst.CSTNode) -> bool:
        functions = 0
        inner, outer = node, self.get_metadata(ParentNodeProvider, node)
        while not isinstance(outer, cst.Module):
            if isinstance(outer, cst.FunctionDef):
                functions += 1
                if inner is not outer.body:
                    return False
            inner, outer = outer, self.get_metadata(ParentNodeProvider, outer)
        return functions == 1

    def _lines(self, node: cst.CSTNode) -> frozenset[int]:
        statement = node
        while not isinstance(statement, cst.BaseStatement):
            statement = self.get_metadata(ParentNodeProvider, statement)
        place = self.get_metadata(PositionProvider, node)
        lines = set(range(place.start.line, place.end.line + 1))
        place = self.get_metadata(PositionProvider, statement)
        lines.add(place.start.line)
        if isinstance(statement, cst.SimpleStatementLine):
            lines.update(range(place.start.line, place.end.line + 1))
        return frozenset(lines)


def mutants(source: str) -> list[Mutant]:
    """Return all mutants of a module's source."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _Visitor()
    wrapper.visit(visitor)
    seen: Counter[tuple[str, str]] = Counter()
    made = []
    for node, mutated, place, lines, is_in_body in visitor.found:
        module = wrapper.module.deep_replace(node, mutated)
        assert isinstance(module, cst.Module)
        code = module.code
        change = _change(source, code)
        seen[place, change] += 1
        if seen[place, change] > 1:
            change += f" ({seen[place, change]})"
        # Without its only super(), a function has another closure, and cannot replace the original.
        is_in_body = is_in_body and source.count("super()") == code.count("super()")
        made.append(Mutant(place, change, code, lines, is_in_body))
    return made


def from_bug(bug: Bug, source: str) -> Mutant:
    """Return a planted bug as a mutant of its module's source."""
    first = source[: source.index(bug.before)].count("\n") + 1
    lines = frozenset(range(first, first + len(bug.before.splitlines())))
    return Mutant(f"promise {bug.promise}", bug.what, bug.source(), lines, is_in_body=False)


def _change(before: str, after: str) -> str:
    was, are = before.splitlines(), after.splitlines()
    while was and are and was[-1] == are[-1]:
        del was[-1], are[-1]
    shorter = min(len(was), len(are))
    first = next((number for number in range(shorter) if was[number] != are[number]), shorter)
    # Each side shows at least one line, also if the change removes lines.
    first = min(first, shorter - 1)
    return " → ".join(" ".join(line.strip() for line in lines[first:]) for lines in (was, are))
