"""What the files hold that a configuration names: recordings, handbooks, models in folders.

A step is taken from the cache where its settings are the same. So the settings must change with the files.
Data files have a digest of their own (`list_files.digest_data`).
"""

from pathlib import Path

from models.knowledge.config import CascadeTeacherConfig, KnowledgeConfig, ReplayTeacherConfig
from pipelines.config import RunConfig


def pin_local_files(config: RunConfig) -> RunConfig:
    """The configuration for a run on this machine, with what its files hold.

    Recordings get an absolute path and their digest, the teacher's other files a digest. A model in a folder
    gets the name of its content as its revision, which loaders read of hub models alone.

    Raises:
        UserError: recordings are not there.
    """
    student, embedding, network = config.student_lm, config.embedding, config.behavior.network
    student_revision = _name_revision(student.base_model, student.revision)
    encoder_revision = _name_revision(embedding.encoder, embedding.revision)
    network_revision = _name_revision(network.pretrained, network.pretrained_revision)
    network = network.model_copy(update={"pretrained_revision": network_revision})
    return config.model_copy(
        update={
            "knowledge": _pin_teacher(config.knowledge),
            "student_lm": student.model_copy(update={"revision": student_revision}),
            "embedding": embedding.model_copy(update={"revision": encoder_revision}),
            "behavior": config.behavior.model_copy(update={"network": network}),
        }
    )


def _pin_teacher(config: KnowledgeConfig) -> KnowledgeConfig:
    from models.knowledge.teachers.teacher_files import digest_teacher_files

    teacher = config.teacher
    if isinstance(teacher, CascadeTeacherConfig):
        if isinstance(teacher.fallback, ReplayTeacherConfig):
            teacher = teacher.model_copy(update={"fallback": _pin_recordings(teacher.fallback)})
    elif isinstance(teacher, ReplayTeacherConfig):
        teacher = _pin_recordings(teacher)
    return config.model_copy(update={"teacher": teacher, "files_digest": digest_teacher_files(teacher)})


def _pin_recordings(teacher: ReplayTeacherConfig) -> ReplayTeacherConfig:
    from models.knowledge.teachers.replay.replay_teacher import digest_recordings

    digest = teacher.digest or digest_recordings(teacher.recordings)
    return teacher.model_copy(update={"recordings": teacher.recordings.absolute(), "digest": digest})


def _name_revision(model: str | None, revision: str | None) -> str | None:
    from models.knowledge.teachers.model_identity import identify_model

    return identify_model(model, None) if model and Path(model).is_dir() else revision
