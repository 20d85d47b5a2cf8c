"""The package keeps what docs/architecture.md and the house's style promise; read from its source."""

import ast
import contextlib
import importlib
import inspect
import io
import re
import textwrap
import tokenize
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "hhcl_torchreid"
LONGEST_FILE = 450
LONGEST_FUNCTION = 50

MODULES = sorted((REPOSITORY / PACKAGE).rglob("*.py"))
PROGRAMS = sorted(path for folder in ("tools", "benchmarks") for path in (REPOSITORY / folder).rglob("*.py"))
PAGES = sorted(path for path in (REPOSITORY / PACKAGE).rglob("*") if path.suffix in (".js", ".css", ".html"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def each(files):
    return pytest.mark.parametrize("path", files, ids=[path.relative_to(REPOSITORY).as_posix() for path in files])


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path):
    """``hhcl_torchreid.data.images`` for its file; a package's own name for its ``__init__``."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}


def room_of(name):
    """The part below the package that a module belongs to; the package's own ``__init__`` is a room by itself."""
    return name.split(".")[1] if "." in name else "__init__"


@cache
def imported_modules(path):
    """Names of this package's modules that a module imports, wherever in it the import stands."""
    name = name_of(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            submodules = {f"{base}.{alias.name}" for alias in node.names} & set(NAMES)
            takes_more = len(submodules) < len(node.names)
            found |= submodules | ({base} if takes_more else set())
    return {module for module in found if module in NAMES} - {name}


@cache
def rooms():
    """The table of docs/architecture.md, from the lowest room up: what each may import."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = {}
    for room, cell in re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", text, re.MULTILINE):
        above = {"nothing": set(), "all above": set(table)}
        table[room] = above[cell] if cell in above else set(re.findall(r"`(\w+)`", cell))
    return table


def test_the_table_names_every_room_once_and_in_order():
    table = rooms()
    assert set(table) == {room_of(name) for name in NAMES}
    below = set()
    for room, allowed in table.items():
        assert allowed <= below, f"{room} may not import what comes after it"
        below.add(room)


@each(MODULES)
def test_a_module_imports_what_its_room_may(path):
    room = room_of(name_of(path))
    upward = {module for module in imported_modules(path) if room_of(module) not in {room, *rooms().get(room, ())}}
    assert not upward


def test_no_import_goes_round():
    try:
        TopologicalSorter({name_of(path): imported_modules(path) for path in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@each(MODULES)
def test_imports_are_relative_and_torchreid_is_reached_by_attributes(path):
    absolute = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in (PACKAGE, "torchreid"):
            absolute.append(node.module)
        elif isinstance(node, ast.Import):
            absolute += [
                a.name for a in node.names if a.name.startswith((f"{PACKAGE}.", "torchreid.")) or a.name == PACKAGE
            ]
    assert not absolute


@each(MODULES + PROGRAMS + PAGES)
def test_a_file_is_short(path):
    length = path.read_text(encoding="utf-8").count("\n")
    assert length <= LONGEST_FILE


def lines_of_code(path):
    """Numbers of the lines that hold more than blanks, comments and docstrings."""
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    numbers = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type not in empty:
            numbers |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Module)) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            numbers -= set(range(docstring.lineno, docstring.end_lineno + 1))
    return numbers


@each(MODULES + PROGRAMS)
def test_a_function_fits_a_screen(path):
    code = lines_of_code(path)
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, FUNCTIONS)]
    lengths = {node.name: len(code & set(range(node.lineno, node.end_lineno + 1))) for node in functions}
    too_long = {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}
    assert not too_long


def targets(node):
    """What a statement assigns to, tuples and lists taken apart."""
    waiting = list(getattr(node, "targets", [getattr(node, "target", None)]))
    while waiting:
        target = waiting.pop()
        if isinstance(target, (ast.Tuple, ast.List)):
            waiting += target.elts
        elif isinstance(target, ast.Starred):
            waiting.append(target.value)
        elif target is not None:
            yield target


def attributes_set(function):
    """Attributes that a method gives its own object, by assignment or as a buffer or parameter of a PyTorch module."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For | ast.NamedExpr):
            found |= {t.attr for t in targets(node) if isinstance(t, ast.Attribute) and ast.unparse(t.value) == "self"}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "self.register_buffer",
            "self.register_parameter",
        ):
            found.add(node.args[0].value)
    return found


def declared(cls):
    """Attributes that a class has from its birth: named in its body, or set in its ``__init__``."""
    names = set()
    for node in cls.body:
        if isinstance(node, FUNCTIONS):
            names |= {node.name} | (attributes_set(node) if node.name == "__init__" else set())
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {target.id for target in targets(node) if isinstance(target, ast.Name)}
    return names


@cache
def inherited(cls):
    """What a class has from the birth of its bases, torchreid's and PyTorch's too."""
    names = set()
    for base in cls.__mro__[1:]:
        # Classes made in C have no source, and no attributes that are set later.
        with contextlib.suppress(TypeError, OSError):
            names |= declared(ast.parse(textwrap.dedent(inspect.getsource(base))).body[0])
    return names


@each(MODULES)
def test_every_attribute_is_born_in_init(path):
    module = importlib.import_module(name_of(path))
    late = set()
    for cls in (node for node in tree_of(path).body if isinstance(node, ast.ClassDef)):
        known = declared(cls) | inherited(getattr(module, cls.name))
        for method in (node for node in cls.body if isinstance(node, FUNCTIONS)):
            late |= {f"{cls.name}.{name}" for name in attributes_set(method) - known}
    assert not late


def is_private(name):
    of_named_tuples = ("_asdict", "_fields", "_make", "_replace")  # public, however they begin
    return name.startswith("_") and not name.endswith("__") and name not in of_named_tuples


def names_of_others(tree):
    """What a file calls the modules and names that it imports from elsewhere than this package."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {
                (alias.asname or alias.name).split(".")[0]
                for alias in node.names
                if (getattr(node, "module", None) or alias.name).split(".")[0] != PACKAGE
            }
    return names


@each(TESTS)
def test_a_test_looks_at_what_is_public(path):
    theirs = {"self", "cls", *names_of_others(tree_of(path))}
    private = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            private |= {name for name in (*node.module.split("."), *(a.name for a in node.names)) if is_private(name)}
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            private |= {ast.unparse(node)} if ast.unparse(node).split(".")[0] not in theirs else set()
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("setattr", "getattr"):
            private |= {a.value for a in node.args if isinstance(a, ast.Constant) and is_private(str(a.value))}
    assert not private
