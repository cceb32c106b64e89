"""Imports run only leftwards in gan <- eval <- curation <- serving <- salon, and `--help` loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from gan.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGES = ["gan", "eval", "curation", "serving", "salon"]  # each may import those before it
# From the lowest to the highest; a module imports from its own room and from those before it.
ROOMS = [
    *("gan.errors", "gan.runtime", "gan.ops", "gan.device", "gan.image_shape", "gan.config", "gan.data"),
    *("gan.networks", "gan.snapshot"),
    *("gan.sampling", "gan.directions", "gan.blending", "gan.augment", "gan.training", "gan.projection"),
    *("gan.rejection", "gan.foreign", "gan.cli"),
    *("eval.request", "eval.features", "eval.suite", "eval.metrics", "eval.data", "eval.metric_registry"),
    "eval.metric_plugins",
    *("eval.thresholds", "eval.accepted_samples", "eval.generator_metrics", "eval.figures", "eval.report"),
    *("eval.directions", "eval.evaluate"),
    *("eval.compare", "eval.compare_groups", "eval.evaluator", "eval.sweep", "eval.ema_widths", "eval.novelty"),
    *("eval.blind", "eval.training_hook", "eval.cli"),
    *("curation.columns", "curation.child_manifest", "curation.prepare", "curation.score", "curation.map"),
    *("curation.decide", "curation.auto", "curation.retrain", "curation.cli"),
    *("serving.contract", "serving.recipes", "serving.export", "serving.server", "serving.client", "serving.verify"),
    *("serving.project", "serving.style", "serving.directions", "serving.gallery", "serving.hub"),
    *("serving.pipeline", "salon.requests", "salon.generator", "salon.steps"),
]
HEAVY = {"torch", "torchvision", "numpy", "PIL", "pyarrow", "av", "safetensors"}
FILES = {  # module -> file
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}


def of_command_line(module: str) -> bool:
    return bool({"cli", "__main__"} & set(module.split("."))) or module == "serving.client.options"


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


def named_in_strings(module: str) -> set[str]:
    """The project's modules that a module names in strings, as importlib takes them and lazy groups of commands do."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    # "salon" is the name of the distribution and of the command, too.
    return {text.partition(":")[0] for text in texts} & set(FILES) - {"salon"}


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
    assert "gan.runtime.console" in imports("gan.cli.train", at_import=True)
    assert "gan.training.carry_out" in imports("gan.cli.train", at_import=False) - imports(
        "gan.cli.train", at_import=True
    )
    assert "torch" in loaded("gan.training.training_loop")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_leftwards(package):
    # All but the composition root, which hands out what lies to the right.
    later = PACKAGES[PACKAGES.index(package) + 1 :]
    for module in (name for name in FILES if name.split(".")[0] == package and name != "gan.__main__"):
        found = imports(module, at_import=False) | named_in_strings(module)
        wrong = {name for name in found if name.split(".")[0] in later}
        assert not wrong, f"{module} imports {wrong}"


def room(module: str) -> str:
    """The room of ROOMS that a module lies in."""
    return next(name for name in ROOMS if module == name or module.startswith(f"{name}."))


@pytest.mark.parametrize("module", [name for name in FILES if name not in (*PACKAGES, "gan.__main__")])
def test_no_arrow_runs_up(module):
    above = ROOMS[ROOMS.index(room(module)) + 1 :]
    found = (imports(module, at_import=False) | named_in_strings(module)) & set(FILES) - set(PACKAGES)
    wrong = {name for name in found if room(name) in above}
    assert not wrong, f"{module} imports {wrong}"


def test_no_module_reaches_itself():
    # What a package's __init__ names for type checkers alone is loaded when it is asked for.
    arrows = {name: imports(name, at_import=name in PACKAGES) & set(FILES) - {name} for name in FILES}
    for module in FILES:
        seen, waiting = set(), [module]
        while waiting:
            new = arrows[waiting.pop()] - seen
            seen |= new
            waiting += new
        assert module not in seen, f"{module} imports itself by way of others"


def test_only_command_lines_import_click():
    for module in FILES:
        if not of_command_line(module) and module != "gan.runtime.console":
            assert "click" not in imports(module, at_import=False), module


def test_nobody_imports_a_command_line():
    for module in FILES:
        wrong = {
            name for name in imports(module, at_import=False) if not of_command_line(module) and of_command_line(name)
        }
        assert not wrong, f"{module} imports {wrong}"


def test_the_root_names_commands_of_cli_modules():
    for target in COMMANDS.values():
        module, name = target.split(":")
        assert of_command_line(module) and module in FILES
        assert name in {
            node.name for node in ast.parse(FILES[module].read_text()).body if isinstance(node, ast.FunctionDef)
        }


@pytest.mark.parametrize(
    "module",
    ["gan.__main__", "gan.runtime.console", "gan.errors", *(name for name in FILES if of_command_line(name))],
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
