"""Synthetic power-line inspection scenes: strings, pylons, conductors, weather, and five kinds of defects."""

from pangu_cv.data.scenes.defects import DEFECT_KINDS, DefectKind
from pangu_cv.data.scenes.plan import SceneConfig
from pangu_cv.data.scenes.scene import GOOD, Scene, render_scene
from pangu_cv.data.scenes.write import write_class_folders, write_mvtec

__all__ = [
    "DEFECT_KINDS",
    "GOOD",
    "DefectKind",
    "Scene",
    "SceneConfig",
    "render_scene",
    "write_class_folders",
    "write_mvtec",
]
