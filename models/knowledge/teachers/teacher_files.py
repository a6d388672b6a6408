"""The files that a teacher reads: who runs a step by its settings must know when one of them has changed."""

from pathlib import Path

from contracts.digests import digest_file, digest_value
from models.knowledge.config import (
    CascadeTeacherConfig,
    HandbookTeacherConfig,
    LanguageModelConfig,
    TeacherConfig,
)
from models.knowledge.teachers.compact.retrieved_examples import EXAMPLES_FILE
from models.knowledge.teachers.model_identity import list_model_files


def digest_teacher_files(teacher: TeacherConfig) -> str | None:
    """Digest of the handbook, models, examples and calibrations on this machine; None where there are none.

    Recordings are not among them: they have a digest of their own.
    """
    paths = [path for path in _list_teacher_files(teacher) if path.is_file()]
    return digest_value([(path.name, digest_file(path)) for path in paths]) if paths else None


def _list_teacher_files(teacher: TeacherConfig) -> list[Path]:
    if isinstance(teacher, CascadeTeacherConfig):
        calibrations = [teacher.calibration] if teacher.calibration else []
        return [*_list_teacher_files(teacher.student), *_list_teacher_files(teacher.fallback), *calibrations]
    if isinstance(teacher, HandbookTeacherConfig):
        return sorted(teacher.folder.glob("*.yaml")) if teacher.folder else []
    if isinstance(teacher, LanguageModelConfig):
        model_folder = Path(teacher.model)
        examples = teacher.examples or model_folder / EXAMPLES_FILE
        return [*list_model_files(model_folder), examples]
    return []
