"""The invariants of the map, `llmctl/README.md`, read off the syntax trees of the source."""

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[1]

# From the ground up; rooms of one row are strangers to each other. Floor 1 has five storeys.
FLOORS = (
    {"errors"},
    {"registry"},
    {"values", "toml", "durable", "figures"},
    {"hub", "manifest"},
    {"config", "shapes", "workspace", "shards", "console", "plots", "report"},
    {"devices", "tuning"},
    {"data", "model", "costs"},
    {"train", "infer"},
    {"evals"},
    {"stages"},
    {"cli"},
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
ENGINE_ROOMS = FLOORS[6] | FLOORS[7] | FLOORS[8]

ADDRESS = re.compile(r"(\w+(?:\.\w+)*):\w+")
DRAWERS = {"base", "common", "helper", "helpers", "misc", "util", "utils"}
TERMINAL = {"print", "input", "sys.stdout", "sys.stderr", "sys.stdin"}
NETWORK = {"aiohttp", "ftplib", "http", "httpx", "huggingface_hub", "requests", "socket", "urllib"}
UNSAFE_IMPORTS = {"cloudpickle", "dill", "marshal", "pickle", "shelve", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "os.system", "torch.load", "numpy.load"}
PARAMETERS = re.compile(
    r"self_attn|attention\.|[qkvo]_proj|lm_head|embed_tokens|c_attn|layernorm|\bwte\b"
)


class Arrow(NamedTuple):
    """An import: of what, in which line, and when.

    `load`: as the file is loaded; `run`: inside a function, or for the type checker alone;
    `name`: a string "module:attribute" that the registry may load.
    """

    target: str
    line: int
    when: Literal["load", "run", "name"]


class Module:
    """A file of llmctl and what its syntax tree says."""

    def __init__(self, path: Path) -> None:
        self.path = path.relative_to(ROOT)
        self.name = ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")
        self.tree = ast.parse(path.read_text(encoding="utf-8"))

    @property
    def room(self) -> str:
        return room_of(self.name)

    @cached_property
    def arrows(self) -> list[Arrow]:
        addresses = [(ADDRESS.fullmatch(text), line) for text, line in self.strings]
        named = [Arrow(address[1], line, "name") for address, line in addresses if address]
        return [*_imports(self.tree, "load"), *named]

    @cached_property
    def strings(self) -> list[tuple[str, int]]:
        """The string constants that are no docstrings."""
        docstrings = {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        return [
            (node.value, node.lineno)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
        ]

    @cached_property
    def names(self) -> dict[str, int]:
        """Each dotted name that the code uses, `pa.schema` as `pyarrow.schema`, with its line."""
        aliases = {
            alias.asname: alias.name
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.asname
        }
        found = {arrow.target: arrow.line for arrow in self.arrows}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                first, dot, rest = ast.unparse(node).partition(".")
                found[aliases.get(first, first) + dot + rest] = node.lineno
        return found

    def says(self, line: int, what: str) -> str:
        return f"{self.path}:{line} {what}"


def room_of(module: str) -> str:
    """`llmctl.train.trainer` -> `train`; the entry `llmctl.__main__` belongs to `cli`."""
    room = f"{module}.".split(".")[1]
    return "cli" if room == "__main__" else room


def _imports(node: ast.AST, when: Literal["load", "run"]) -> Iterator[Arrow]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import():
                yield from (Arrow(alias.name, child.lineno, when) for alias in child.names)
            case ast.ImportFrom():
                for alias in child.names:
                    yield Arrow(f"{child.module}.{alias.name}", child.lineno, when)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from _imports(child, "run")
            case ast.If() if "TYPE_CHECKING" in ast.unparse(child.test):
                yield from _imports(child, "run")
            case _:
                yield from _imports(child, when)


MODULES = {module.name: module for module in map(Module, sorted((ROOT / "llmctl").rglob("*.py")))}


def inner_arrows() -> Iterator[tuple[Module, Arrow, str]]:
    """Each import of one module of llmctl by another, with the name of the imported one."""
    for module in MODULES.values():
        for arrow in module.arrows:
            target = arrow.target if arrow.target in MODULES else arrow.target.rpartition(".")[0]
            if target.startswith("llmctl.") and target != module.name:
                yield module, arrow, target


def outer_imports(module: Module) -> Iterator[tuple[str, int]]:
    for arrow in module.arrows:
        if not arrow.target.startswith("llmctl"):
            yield arrow.target, arrow.line


def test_every_room_stands_on_a_floor():
    rooms = {module.room for module in MODULES.values() if module.name != "llmctl"}

    assert rooms - LEVEL.keys() == set()


def test_imports_only_go_down():
    wrong = [
        module.says(arrow.line, f"imports {target}")
        for module, arrow, target in inner_arrows()
        if module.room != room_of(target) and LEVEL[module.room] <= LEVEL[room_of(target)]
    ]

    assert wrong == []


def test_the_command_line_knows_no_engine_room():
    wrong = [
        module.says(arrow.line, f"imports {target}")
        for module, arrow, target in inner_arrows()
        if module.room == "cli" and room_of(target) in ENGINE_ROOMS
    ]

    assert wrong == []


def test_a_stage_reaches_the_engine_rooms_only_while_it_runs_and_no_other_stage_ever():
    wrong = [
        module.says(arrow.line, f"imports {target}")
        for module, arrow, target in inner_arrows()
        if module.room == "stages" and module.name != "llmctl.stages"
        if room_of(target) == "stages" or (room_of(target) in ENGINE_ROOMS and arrow.when == "load")
    ]

    assert wrong == []


def test_there_is_no_circle():
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for module, arrow, target in inner_arrows():
        if arrow.when != "name" and target in MODULES:
            graph[module.name].add(target)

    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_package_files_hold_nothing_but_tables_of_strings():
    plain = (ast.Dict, ast.List, ast.Tuple, ast.Constant, ast.Name, ast.expr_context)
    wrong = [
        module.says(statement.lineno, "is no table of strings")
        for module in MODULES.values()
        if module.path.name == "__init__.py"
        for statement in module.tree.body
        if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr)
        or not all(isinstance(node, plain) for node in ast.walk(statement.value))
    ]

    assert wrong == []


def test_no_file_is_a_drawer_or_bears_the_name_of_a_library():
    libraries = {
        target.split(".")[0] for module in MODULES.values() for target, _ in outer_imports(module)
    }
    wrong = [
        str(module.path)
        for module in MODULES.values()
        if module.room != "stages"
        if {module.path.stem, module.path.parent.name} & (DRAWERS | libraries)
    ]

    assert wrong == []


def test_only_stages_and_the_command_line_speak_to_the_terminal():
    wrong = [
        module.says(line, f"uses {name}")
        for module in MODULES.values()
        if module.room not in {"stages", "cli", "console"}
        for name, line in module.names.items()
        if name in TERMINAL or name.split(".")[0] in {"rich", "typer"}
    ]

    assert wrong == []


def test_nothing_that_is_read_is_run():
    wrong = [
        module.says(line, f"uses {name}")
        for module in MODULES.values()
        for name, line in module.names.items()
        if name in UNSAFE_CALLS or name.split(".")[0] in UNSAFE_IMPORTS
    ]
    wrong += [
        module.says(node.value.lineno, "opens a shell")
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.keyword) and node.arg == "shell"
    ]

    assert wrong == []


def test_typer_is_used_by_its_public_names():
    wrong = [
        module.says(line, f"imports {target}")
        for module in MODULES.values()
        for target, line in outer_imports(module)
        if target.split(".")[0] == "click" or target.startswith("typer._")
    ]

    assert wrong == []


def test_only_the_families_know_the_parameter_names_of_others():
    wrong = [
        module.says(line, repr(text))
        for module in MODULES.values()
        if not module.name.startswith("llmctl.model.families")
        for text, line in module.strings
        if PARAMETERS.search(text)
    ]

    assert wrong == []


def test_only_the_workspace_lays_out_artifacts_and_only_shards_knows_schemas():
    wrong = [
        module.says(line, f"speaks of {text}")
        for module in MODULES.values()
        for text, line in [*module.strings, *module.names.items()]
        if (module.room != "workspace" and text in {"manifest.json", ".drafts"})
        or (module.room != "shards" and text in {"pyarrow.schema", "pyarrow.field"})
    ]

    assert wrong == []


def test_only_distributed_training_knows_of_other_processes():
    wrong = [
        module.says(line, f"speaks of {text}")
        for module in MODULES.values()
        if not module.name.startswith("llmctl.train.distributed.")
        for text, line in [*module.strings, *module.names.items()]
        if text in {"RANK", "WORLD_SIZE", "LOCAL_RANK"} or text.startswith("torch.distributed")
    ]

    assert wrong == []


def test_only_the_named_modules_can_open_a_connection():
    allowed = {
        "llmctl.data.fetching.addresses": {"httpx", "socket", "urllib"},
        "llmctl.data.fetching.client": {"httpx"},
        "llmctl.data.fetching.download": {"httpx"},
        "llmctl.data.rowsets.streaming": {"huggingface_hub"},
        "llmctl.hub": {"huggingface_hub"},
    }
    wrong = [
        module.says(line, f"imports {target}")
        for module in MODULES.values()
        for target, line in outer_imports(module)
        if target.split(".")[0] in NETWORK - allowed.get(module.name, set())
        and not target.startswith("urllib.parse")
    ]

    assert wrong == []
