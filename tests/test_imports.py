"""Imports run only leftwards in gan <- eval <- curation <- serving, and `--help` loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from gan.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGES = ["gan", "eval", "curation", "serving"]  # each may import those before it
HEAVY = {"torch", "torchvision", "numpy", "PIL", "pyarrow", "av", "safetensors"}
FILES = {  # module -> file
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}


def imports(module: str, *, at_import: bool) -> set[str]:
    """What a module names in import statements: those that run `at_import`, or all of them. Submodules in full."""
    found = set()

    def visit(node):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import, which this test does not follow"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update({node.module} | (names & set(FILES)))
        elif at_import and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or type_checking(node)
        ):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(FILES[module].read_text(encoding="utf-8")))
    return found


def type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def loaded(module: str) -> set[str]:
    """Every module that importing `module` imports: the project's and the first level of others."""
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in FILES:
            parents = [".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)]
            waiting += [*parents, *imports(name, at_import=True)]
    return seen


def test_every_package_is_seen():
    assert {name.split(".")[0] for name in FILES} == set(PACKAGES)
    assert "gan.console" in imports("gan.train_cli", at_import=True)
    assert "gan.trainer" in imports("gan.train_cli", at_import=False) - imports("gan.train_cli", at_import=True)
    assert "torch" in loaded("gan.trainer")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_leftwards(package):
    later = PACKAGES[PACKAGES.index(package) + 1 :]
    for module in (name for name in FILES if name.split(".")[0] == package):
        wrong = {name for name in imports(module, at_import=False) if name.split(".")[0] in later}
        assert not wrong, f"{module} imports {wrong}"


def test_nobody_imports_a_command_line():
    for module in FILES:
        wrong = {
            name
            for name in imports(module, at_import=False)
            if name.split(".")[-1] == "__main__" or name.split(".")[-1].endswith("cli")
        }
        assert not wrong, f"{module} imports {wrong}"


def test_the_root_names_commands_of_cli_modules():
    for target in COMMANDS.values():
        module, name = target.split(":")
        assert module.endswith("cli") and module in FILES
        assert name in {
            node.name for node in ast.parse(FILES[module].read_text()).body if isinstance(node, ast.FunctionDef)
        }


@pytest.mark.parametrize(
    "module",
    ["gan.__main__", "gan.console", "gan.errors", *(name for name in FILES if name.endswith("cli"))],
)
def test_what_help_needs_imports_nothing_heavy(module):
    assert not {name.split(".")[0] for name in loaded(module)} & HEAVY


def test_help_loads_nothing_heavy():
    code = "\n".join(
        [
            "import sys",
            "from gan.__main__ import COMMANDS, main",
            "for command in [[], *([name] for name in COMMANDS)]:",
            "    try:",
            "        main([*command, '--help'])",
            "    except SystemExit as end:",
            "        assert end.code == 0",
            f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)",
        ]
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr == "[]\n"
    assert ended.stdout.count("Usage: ") == 1 + len(COMMANDS)
