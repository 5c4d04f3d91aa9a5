"""A profile by name or path, and the reading of configuration files."""

from __future__ import annotations

from pathlib import Path

from harness.config.explain import validate
from harness.config.problems import DocumentError, Problem, did_you_mean
from harness.config.profile_document import ProfileDocument
from harness.config.shipped import shipped_dir
from harness.config.yaml_tree import LARGEST_FILE, YamlTree, read_tree
from harness.errors import InputError
from harness.model.units import quote


class ProfileNotFound(InputError):
    """No file for a profile's name or path."""


def read_file(path: Path) -> bytes:
    """The file's bytes, at most one more than a document may have. Raises DocumentError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problem = Problem(file=str(path), line=None, column=None, message=f"cannot be read: {reason}")
        raise DocumentError([problem]) from None


def load_profile(reference: str, *, beside: Path) -> ProfileDocument:
    """A profile by path (ends in ``.yaml``, relative to the topology ``beside``) or by name: from ``profiles/`` beside
    the topology, else from the shipped ones. Raises ProfileNotFound, or DocumentError for what is wrong in its file."""
    path = _find(reference, beside)
    return profile_of(read_tree(read_file(path), str(path)), path)


def profile_of(tree: YamlTree, path: Path) -> ProfileDocument:
    """The profile that a file says. Raises DocumentError with every problem."""
    if tree.problems and tree.value is None:
        raise DocumentError(tree.problems)
    document, invalid = validate(ProfileDocument, tree)
    if document is None or tree.problems:
        raise DocumentError([*tree.problems, *invalid])
    if document.name != path.stem:
        message = f"the profile is named {quote(document.name)}, its file {quote(path.name)}; they must agree"
        raise DocumentError([tree.problem(("name",), message)])
    return document


def _find(reference: str, beside: Path) -> Path:
    if reference.endswith((".yaml", ".yml")):
        candidates = [beside.parent / reference]
    elif "/" in reference or "\0" in reference or reference.startswith("."):
        candidates = []
    else:
        candidates = [folder / f"{reference}.yaml" for folder in _folders(beside)]
    for candidate in candidates:
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):
            continue
    names = sorted({path.stem for folder in _folders(beside) for path in folder.glob("*.yaml")})
    known = ", ".join(names) or "none"
    raise ProfileNotFound(
        f"there is no profile {quote(reference)}; profiles: {known}, or a path that ends in .yaml"
        f"{did_you_mean(reference, names)}"
    )


def _folders(beside: Path) -> tuple[Path, ...]:
    return beside.parent / "profiles", shipped_dir("topologies") / "profiles"
