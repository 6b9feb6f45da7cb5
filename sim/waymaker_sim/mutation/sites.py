"""Mutations of one module: every small change of its syntax tree that could be a bug, in a fixed order.

The order depends on the text alone, so the number of a mutation means the same in every process. Only bodies of functions
are changed. Assertions, texts of errors, annotations and defaults are left out: they decide nothing.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
TEXT_ONLY = frozenset({"__repr__", "__str__"})
"""Functions whose result is text for people."""
MAKING = "__init__"
"""Attributes that are never set raise at once, so leaving those assignments out shows nothing."""
NOT_MUTATED = (ast.Assert, ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Lambda, ast.ClassDef, ast.pattern)
"""Nodes that no expression is mutated in. A `raise` can still be dropped as a whole."""
LOOPS = (ast.For, ast.While)
TEXT_MAX = 160


@dataclass(slots=True)
class Mutation:
    """One change: in `parent`, the field `field` (its item `item`, or the whole of it below 0) becomes `new`."""

    number: int
    line: int
    function: str
    operator: str
    parent: ast.AST
    field: str
    item: int
    new: object
    block: list[ast.stmt]
    """The statements that contain `statement`."""
    statement: ast.stmt | None
    """The statement that is changed, or None where a whole body is."""
    before: str = ""
    after: str = ""

    def apply(self) -> object:
        """Change the tree. Returns the node that was there."""
        return self.put(self.new)

    def put(self, node: object) -> object:
        """Put a node in the place of this mutation. Returns the node that was there."""
        old: object = getattr(self.parent, self.field)
        if self.item < 0:
            setattr(self.parent, self.field, node)
        else:
            assert isinstance(old, list)
            items, old = old, old[self.item]
            items[self.item] = node
        return old

    def place(self) -> tuple[int, str, int]:
        """Return the key that the mutations of one place have in common."""
        return id(self.parent), self.field, self.item


def mutations(tree: ast.Module, *, with_texts: bool = True) -> list[Mutation]:
    """Return every mutation of a module, in the order of its text. `with_texts`: with the texts before and after, which
    cost most."""
    found: list[Mutation] = []
    for one in _in_scope(tree, ""):
        one.number = len(found)
        if with_texts:
            _describe(one)
        found.append(one)
    return found


def mark(one: Mutation, name: str, number: int) -> None:
    """Put a call of `name` before the statement of a mutation, which reports that it was reached."""
    call = ast.Expr(ast.Call(ast.Name(name, ast.Load()), [ast.Constant(number)], []))
    if one.statement is not None:
        index = next(index for index, each in enumerate(one.block) if each is one.statement)
    else:
        index = 1 if _is_text(one.block[0]) and len(one.block) > 1 else 0
    one.block.insert(index, ast.copy_location(call, one.block[index]))


def _describe(one: Mutation) -> None:
    statement = one.statement if one.statement is not None else one.parent
    one.before = _header(statement)
    old = one.apply()
    if one.statement is None:
        one.after = "nothing is done"
    elif one.item >= 0 and isinstance(one.new, ast.stmt) and old is one.statement:
        one.after = _header(one.new)
    else:
        one.after = _header(statement)
    one.put(old)


def _header(node: ast.AST) -> str:
    """Return a statement in one line; of a compound one the part before its body."""
    if isinstance(node, ast.If | ast.While):
        text = f"{'if' if isinstance(node, ast.If) else 'while'} {ast.unparse(node.test)}:"
    elif isinstance(node, ast.For):
        text = f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}:"
    elif isinstance(node, ast.With):
        text = f"with {', '.join(ast.unparse(item) for item in node.items)}:"
    elif isinstance(node, ast.Match):
        text = f"match {ast.unparse(node.subject)}:"
    elif isinstance(node, ast.FunctionDef):
        text = f"def {node.name}({ast.unparse(node.args)}):"
    elif isinstance(node, ast.match_case):
        text = f"case {ast.unparse(node.pattern)}:"
    else:
        text = ast.unparse(node)
    return " ".join(text.split())[:TEXT_MAX]


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


# ---------------------------------------------------------------- walking


def _in_scope(scope: ast.AST, prefix: str) -> Iterator[Mutation]:
    """Yield the mutations of the functions that a module or a class defines."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.ClassDef):
            yield from _in_scope(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and node.name not in TEXT_ONLY:
            yield from _Function(node, f"{prefix}{node.name}").mutations()


class _Function:
    """One function under mutation."""

    def __init__(self, node: ast.FunctionDef, name: str) -> None:
        self._node = node
        self._name = name
        self._block: list[ast.stmt] = node.body
        self._statement: ast.stmt | None = None

    def mutations(self) -> Iterator[Mutation]:
        """Walk through the body."""
        node = self._node
        work = [each for each in node.body if not _is_text(each) and not isinstance(each, ast.Pass)]
        returns_nothing = isinstance(node.returns, ast.Constant) and node.returns.value is None
        if len(work) > 1 and returns_nothing and node.name != MAKING:
            yield self._change(node, "body", -1, [ast.copy_location(ast.Pass(), work[0])], "early return", node.lineno)
        yield from self._walk_block(node.body)

    def _change(self, parent: ast.AST, field: str, item: int, new: object, operator: str, line: int) -> Mutation:
        if isinstance(new, ast.AST):
            old = getattr(parent, field) if item < 0 else getattr(parent, field)[item]
            if isinstance(old, ast.expr | ast.stmt):
                ast.copy_location(new, old)
        return Mutation(0, line, self._name, operator, parent, field, item, new, self._block, self._statement)

    def _walk_block(self, block: list[ast.stmt]) -> Iterator[Mutation]:
        for index, statement in enumerate(block):
            self._block, self._statement = block, statement
            if isinstance(statement, ast.FunctionDef):
                yield from _Function(statement, f"{self._name}.{statement.name}").mutations()
                continue
            if _is_text(statement) or isinstance(statement, ast.Assert | ast.Pass | ast.Import | ast.ImportFrom):
                continue
            yield from self._of_statement(block, index, statement)
            if not isinstance(statement, NOT_MUTATED):
                for name, value in ast.iter_fields(statement):
                    yield from self._walk_field(statement, name, value)
            for inner in _blocks(statement):
                yield from self._walk_block(inner)

    def _walk_field(self, parent: ast.AST, name: str, value: object) -> Iterator[Mutation]:
        if name in {"annotation", "returns", "decorator_list", "type_comment"}:
            return
        if isinstance(value, ast.expr):
            yield from self._of_expression(parent, name, -1, value)
        elif isinstance(value, list):
            for index, each in enumerate(value):
                if isinstance(each, ast.expr):
                    yield from self._of_expression(parent, name, index, each)
                elif isinstance(each, ast.keyword | ast.comprehension | ast.withitem):
                    for inner, content in ast.iter_fields(each):
                        yield from self._walk_field(each, inner, content)

    # ------------------------------------------------------------ statements

    def _of_statement(self, block: list[ast.stmt], index: int, statement: ast.stmt) -> Iterator[Mutation]:
        holder = _Holder(block)
        line = statement.lineno

        def instead(new: ast.stmt, operator: str) -> Mutation:
            return self._change(holder, "items", index, new, operator, line)

        match statement:
            case ast.Assign() if self._node.name == MAKING:
                pass
            case ast.Expr() | ast.AugAssign() | ast.Delete() | ast.Raise():
                yield instead(ast.Pass(), "dropped statement")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield instead(ast.Pass(), "dropped statement")
            case ast.Continue():
                yield instead(ast.Pass(), "dropped statement")
                yield instead(ast.Break(), "loop")
            case ast.Break():
                yield instead(ast.Pass(), "dropped statement")
                yield instead(ast.Continue(), "loop")
            case ast.Return(value=ast.expr() as value) if self._returns("bool") and not isinstance(value, ast.Constant):
                yield instead(ast.Return(ast.UnaryOp(ast.Not(), copy.deepcopy(value))), "negation")
            case ast.Return(value=ast.expr() as value) if self._returns("None") and not isinstance(value, ast.Constant):
                yield instead(ast.Return(ast.Constant(None)), "returned value")
            case ast.If(test=test) | ast.While(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):
                yield self._change(statement, "test", -1, ast.UnaryOp(ast.Not(), copy.deepcopy(test)), "negation", line)
        if isinstance(statement, ast.AugAssign) and type(statement.op) in OPERATORS:
            yield self._change(statement, "op", -1, OPERATORS[type(statement.op)](), "operator", line)

    def _returns(self, word: str) -> bool:
        returns = self._node.returns
        return returns is not None and word in ast.unparse(returns).replace("|", " ").split()

    # ------------------------------------------------------------ expressions

    def _of_expression(self, parent: ast.AST, field: str, item: int, node: ast.expr) -> Iterator[Mutation]:
        if isinstance(node, NOT_MUTATED):
            return
        line = node.lineno

        def instead(new: ast.expr, operator: str) -> Mutation:
            return self._change(parent, field, item, new, operator, line)

        match node:
            case ast.Compare():
                for index, op in enumerate(node.ops):
                    for other in COMPARISONS[type(op)]:
                        yield self._change(node, "ops", index, other(), "comparison", line)
            case ast.BoolOp():
                yield self._change(
                    node, "op", -1, ast.Or() if isinstance(node.op, ast.And) else ast.And(), "and, or", line
                )
                for value in node.values:
                    rest = [each for each in node.values if each is not value]
                    shorter = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
                    yield instead(copy.deepcopy(shorter), "dropped operand")
            case ast.UnaryOp(op=ast.Not() | ast.USub()):
                yield instead(copy.deepcopy(node.operand), "removed sign")
            case ast.BinOp() if type(node.op) in OPERATORS and not any(map(_is_sequence, (node.left, node.right))):
                yield self._change(node, "op", -1, OPERATORS[type(node.op)](), "operator", line)
            case ast.IfExp():
                yield instead(ast.IfExp(node.test, node.orelse, node.body), "swapped branches")
            case ast.Constant(value=bool() as value):
                yield instead(ast.Constant(not value), "constant")
            case ast.Constant(value=int() as value):
                yield instead(ast.Constant(value + 1), "constant")
                if value:
                    yield instead(ast.Constant(value - 1), "constant")
            case ast.Call():
                yield from self._of_call(node, line)
        for name, value in ast.iter_fields(node):
            yield from self._walk_field(node, name, value)

    def _of_call(self, node: ast.Call, line: int) -> Iterator[Mutation]:
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield self._change(node, "func", -1, ast.Name(CALLS[node.func.id], ast.Load()), "call", line)
        elif len(node.args) > 1 and not any(isinstance(each, ast.Starred) for each in node.args[:2]):
            first, second, *rest = node.args
            of_types = isinstance(node.func, ast.Name) and node.func.id in {"isinstance", "getattr", "partial", "cast"}
            if not of_types and ast.dump(first) != ast.dump(second):
                yield self._change(node, "args", -1, [second, first, *rest], "swapped arguments", line)


class _Holder(ast.AST):
    """A block as a field, so that its statements can be replaced like all else."""

    def __init__(self, items: list[ast.stmt]) -> None:
        super().__init__()
        self.items = items


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the blocks inside a compound statement."""
    match statement:
        case ast.Match():
            for case in statement.cases:
                yield case.body
        case ast.Try():
            yield statement.body
            for handler in statement.handlers:
                yield handler.body
            yield statement.orelse
            yield statement.finalbody
        case ast.If() | ast.For() | ast.While():
            yield statement.body
            yield statement.orelse
        case ast.With():
            yield statement.body


def _is_sequence(node: ast.expr) -> bool:
    """Return True if an operand is text or a list, for which no other operator exists."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | bytes)
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp)
