"""From a teacher's configuration to the teacher."""

from models.knowledge.config import HandbookTeacherConfig, OpenAITeacherConfig, ReplayTeacherConfig, TeacherConfig
from models.knowledge.teachers.base import Teacher


def build_teacher(config: TeacherConfig) -> Teacher:
    """Makes the configured teacher; its libraries are imported only now.

    Raises:
        UserError: the teacher's files, key or server are not there.
    """
    if isinstance(config, HandbookTeacherConfig):
        from models.knowledge.teachers.handbook import HandbookTeacher

        return HandbookTeacher(config)
    if isinstance(config, OpenAITeacherConfig):
        from models.knowledge.teachers.openai_compatible import OpenAICompatibleTeacher

        return OpenAICompatibleTeacher(config)
    assert isinstance(config, ReplayTeacherConfig)
    from models.knowledge.teachers.replay import ReplayTeacher

    return ReplayTeacher(config)
