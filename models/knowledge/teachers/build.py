"""From a teacher's configuration to the teacher."""

from models.knowledge.config import (
    HandbookTeacherConfig,
    OpenAITeacherConfig,
    ReplayTeacherConfig,
    TeacherConfig,
    TransformersTeacherConfig,
    VllmTeacherConfig,
)
from models.knowledge.teachers.base import Teacher


def build_teacher(config: TeacherConfig) -> Teacher:
    """Makes the configured teacher; its libraries are imported only now, weights only at the first request.

    Raises:
        UserError: the teacher's files, key or server are not there.
    """
    if isinstance(config, HandbookTeacherConfig):
        from models.knowledge.teachers.handbook import HandbookTeacher

        return HandbookTeacher(config)
    if isinstance(config, VllmTeacherConfig):
        from models.knowledge.teachers.vllm_offline import VllmTeacher

        return VllmTeacher(config)
    if isinstance(config, OpenAITeacherConfig):
        from models.knowledge.teachers.openai_compatible import OpenAICompatibleTeacher

        return OpenAICompatibleTeacher(config)
    if isinstance(config, TransformersTeacherConfig):
        from models.knowledge.teachers.transformers_local import TransformersTeacher

        return TransformersTeacher(config)
    assert isinstance(config, ReplayTeacherConfig)
    from models.knowledge.teachers.replay import ReplayTeacher

    return ReplayTeacher(config)
