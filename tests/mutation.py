"""Break a module in one place at a time and see whether the tests notice: python tests/mutation.py MODULE.py TESTS...

Each line of the output is a mutant: `MODULE:LINE: MUTATION: killed`, `survived` or `timeout` (which counts as noticed).
A survivor is a formula that no test holds, or a mutant that means the same. Operators and names (sum
and mean) are swapped, constants changed, conditions negated, and statements, results, calls without arguments and
decorators dropped; sentences (strings with a space), annotations and assertions are left alone.

Nothing on disk changes: each mutant is compiled in memory, in a process of its own that is forked with torch already
imported. Programs that a test starts see the module unbroken. The native operators are off (SALON_NATIVE=1: on, built
anew for each mutant). Put the test file that kills most first; only the tests up to the first failure are run.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import importlib.machinery
import importlib.util
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork has none of its parent's threads
os.environ.setdefault("SALON_NATIVE", "0")

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAIRS = [(ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn)]
PAIRS += [(ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.BitOr, ast.BitAnd), (ast.And, ast.Or)]
SWAPPED = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])} | {ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult}
SWAPPED |= {ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift}
NAMES = [("min", "max"), ("minimum", "maximum"), ("any", "all"), ("floor", "ceil"), ("cos", "sin"), ("mean", "sum")]
NAMES += [("std", "var"), ("zeros", "ones")]
EXCHANGED = {a: b for pair in NAMES for a, b in (pair, pair[::-1])}
Way = tuple[tuple[str, int | None], ...]  # from the tree's root: fields, and places in those that are lists


def nodes(node: ast.AST, way: Way = ()) -> Iterator[tuple[Way, ast.AST]]:
    """Every node below that may be broken, with the way to it."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "msg") or isinstance(node, ast.Assert | ast.JoinedStr):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not docstring:
                yield (*way, (field, index)), child
                yield from nodes(child, (*way, (field, index)))


def mutations(node: ast.AST) -> Iterator[ast.AST | None]:
    """What may stand in a node's place; None: nothing."""

    def changed(**fields: object) -> ast.AST:
        return ast.copy_location(type(node)(**{**dict(ast.iter_fields(node)), **fields}), node)

    match node:
        case ast.Compare(ops=ops):
            for index, op in enumerate(ops):
                yield changed(ops=[*ops[:index], SWAPPED[type(op)](), *ops[index + 1 :]])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPPED:
            yield changed(op=SWAPPED[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield changed(value=not value)
        case ast.Constant(value=int() as value):
            yield changed(value=value + 1)
        case ast.Constant(value=float() as value):
            yield changed(value=value * 2 or 1.0)
        case ast.Constant(value=str() as value) if " " not in value:
            yield changed(value=value + "?")
        case ast.Name(id=name) if name in EXCHANGED:
            yield changed(id=EXCHANGED[name])
        case ast.Attribute(attr=name) if name in EXCHANGED:
            yield changed(attr=EXCHANGED[name])
        case ast.Call(func=ast.Attribute(value=value), args=[], keywords=[]):
            yield value
        case ast.FunctionDef(decorator_list=decorators):
            for index in range(len(decorators)):
                yield changed(decorator_list=[*decorators[:index], *decorators[index + 1 :]])
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield changed(value=ast.Constant(None))
        case ast.comprehension(ifs=tests):
            for index, test in enumerate(tests):
                yield changed(ifs=[*tests[:index], ast.UnaryOp(ast.Not(), test), *tests[index + 1 :]])
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield changed(test=ast.UnaryOp(ast.Not(), test))
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.Expr() | ast.Raise():
            yield None
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            if name in {read.id for read in ast.walk(value) if isinstance(read, ast.Name)}:  # it had a value before
                yield None
    if isinstance(node, ast.AugAssign):
        yield None


def mutants(source: str) -> Iterator[tuple[int, str, ast.Module]]:
    """Line, description and tree of each broken form of a module."""
    tree = ast.parse(source)
    for way, node in nodes(tree):
        for replacement in mutations(node):
            broken = copy.deepcopy(tree)
            parent: ast.AST = broken
            for field, index in way[:-1]:
                parent = getattr(parent, field) if index is None else getattr(parent, field)[index]
            field, index = way[-1]
            new = ast.Pass() if replacement is None else copy.deepcopy(replacement)
            if index is None:
                setattr(parent, field, new)
            else:
                getattr(parent, field)[index] = new
            line = getattr(node, "lineno", getattr(parent, "lineno", 0))
            yield line, f"{_text(node)} -> {_text(new)}", ast.fix_missing_locations(broken)


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


class Loader(importlib.machinery.SourceFileLoader):
    """Loads one module from a tree. As a finder it leaves all others to Python."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        super().__init__(".".join(path.relative_to(ROOT).with_suffix("").parts), str(path))
        self.tree = tree

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, _: str) -> CodeType:
        return compile(self.tree, self.path, "exec")


def attempt(path: Path, tree: ast.Module, tests: list[str], folder: str) -> None:
    """Run the tests on a tree, in a process of its own, whose exit code is pytest's."""
    os.setsid()
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    sys.meta_path.insert(0, Loader(path, tree))
    arguments = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/pytest"]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of plugins, which are imported already
    code = pytest.main([*arguments, *tests])
    of_others = [name for name, module in sys.modules.items() if "-packages" in (getattr(module, "__file__", "") or "")]
    Path(folder, "imported").write_text("\n".join(of_others))
    os._exit(code)


def outcome(path: Path, tree: ast.Module, tests: list[str], limit: float | None) -> tuple[str, list[str]]:
    """How the tests take to a tree, and which modules of other packages they imported."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = multiprocessing.get_context("fork").Process(target=attempt, args=(path, tree, tests, folder))
        process.start()
        process.join(limit)
        late = process.exitcode is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that the tests have started
        process.join()
        imported = Path(folder, "imported")
        names = imported.read_text().split() if imported.exists() else []
        return "timeout" if late else "killed" if process.exitcode else "survived", names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--limit-seconds", type=float, metavar="S", help="of a mutant; default: 10 + 4 x unbroken")
    parser.add_argument("--sample", type=int, metavar="N", help="try so many, drawn at random; default: all")
    parser.add_argument("--seed", type=int, metavar="K", default=0)
    parser.add_argument("--lines", metavar="FIRST-LAST", help="try only mutants of these lines")
    options = parser.parse_args()

    path, sys.path[:0] = options.module.resolve(), [str(ROOT)]
    source = path.read_text()
    for name in outcome(path, ast.parse(source), options.tests, None)[1]:
        with contextlib.suppress(Exception):  # some load only in an order of their own
            importlib.import_module(name)
    start = time.monotonic()
    if outcome(path, ast.parse(source), options.tests, None)[0] != "survived":
        sys.exit(f"the tests must pass on the module as it is: pytest {' '.join(options.tests)}")
    seconds = time.monotonic() - start
    chosen = list(mutants(source))
    if options.lines:
        first, last = map(int, options.lines.split("-"))
        chosen = [mutant for mutant in chosen if first <= mutant[0] <= last]
    if options.sample is not None and options.sample < len(chosen):
        picked = random.Random(options.seed).sample(range(len(chosen)), options.sample)
        chosen = [chosen[index] for index in sorted(picked)]
    counts: Counter[str] = Counter()
    for line, description, tree in chosen:
        ending, _ = outcome(path, tree, options.tests, options.limit_seconds or 10 + 4 * seconds)
        counts[ending] += 1
        print(f"{options.module}:{line}: {description}: {ending}", flush=True)
    print(f"{options.module}: {len(chosen)} mutants: {', '.join(f'{n} {ending}' for ending, n in counts.items())}")


if __name__ == "__main__":
    main()
