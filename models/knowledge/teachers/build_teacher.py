"""From a teacher's configuration to the teacher."""

from importlib import import_module
from typing import Final

from contracts.errors import UserError
from models.knowledge.config import LanguageModelConfig, TeacherConfig
from models.knowledge.teachers.teacher import Teacher

_CLASSES: Final = {
    "handbook": "handbook_teacher.HandbookTeacher",
    "vllm": "vllm_teacher.VllmTeacher",
    "openai": "openai_teacher.OpenAICompatibleTeacher",
    "transformers": "transformers_teacher.TransformersTeacher",
    "replay": "replay.replay_teacher.ReplayTeacher",
    "cascade": "cascade.cascade_teacher.CascadeTeacher",
}
"""Module and class by `kind`. They are imported only when used: each has heavy libraries of its own."""


def build_teacher(config: TeacherConfig) -> Teacher:
    """Makes the configured teacher; weights are loaded only at the first request.

    Raises:
        UserError: the teacher's files, key or server are not there.
    """
    module_name, _, class_name = _CLASSES[config.kind].rpartition(".")
    teacher: Teacher = getattr(import_module(f"models.knowledge.teachers.{module_name}"), class_name)(config)
    if isinstance(config, LanguageModelConfig) and config.form == "compact":
        from models.knowledge.teachers.compact.compact_teacher import CompactTeacher
        from models.knowledge.teachers.compact.retrieved_examples import find_example_store

        return CompactTeacher(teacher, find_example_store(config.model, config.examples))
    if getattr(config, "examples", None):
        raise UserError("teacher.examples: they are shown in one form alone; set teacher.form = compact")
    return teacher
