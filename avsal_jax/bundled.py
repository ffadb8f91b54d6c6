"""Folders shipped with the program, and the models in checkpoints/ (in a wheel: avsal_jax/checkpoints)."""

from __future__ import annotations

import json
import pathlib

DEFAULT = "avsal-gaze"  # the default model of `avsal predict` and `load_model()`
NOTE = (
    f"note: without --model, the bundled {DEFAULT} runs; checkpoints/{DEFAULT}/README.md says how good it is"
)
# Models of earlier versions, and where they are now.
RETIRED = {
    "avsal-mini": (
        "avsal-mini, trained on generated scenes, no longer comes with the program: avsal-gaze, the default, "
        "was trained on where people look. The repository has it in checkpoints/avsal-mini; give that folder"
    )
}


def shipped_folder(in_wheel: str, in_checkout: str) -> pathlib.Path:
    """Returns a folder shipped with the program: in the package, or else in the checkout around it."""
    package = pathlib.Path(__file__).parent
    folder = package / in_wheel
    return folder if folder.is_dir() else package.parent / in_checkout


def bundled_models() -> dict[str, pathlib.Path]:
    """Returns the model directories of checkpoints/manifest.json by name."""
    folder = shipped_folder("checkpoints", "checkpoints")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {model["name"]: folder / model["name"] for model in manifest["bundled"]}


def model_directory(path) -> pathlib.Path:
    """Returns `path` if it is a directory, else the bundled model of that name."""
    path = pathlib.Path(path)
    return path if path.is_dir() else bundled_models().get(str(path), path)
