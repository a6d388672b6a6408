"""Fine-tunes a small language model on what a teacher knows."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def distill_teacher(
    dataset: dsl.Input[dsl.Dataset],
    knowledge: dsl.Input[dsl.Dataset],
    config: str,
    workspace: str,
    code_version: str,
    student: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Trains a student of the teacher and measures it on held-out items; resumes from its checkpoint.

    Args:
        dataset: the dataset artifact.
        knowledge: the knowledge artifact, of any teacher.
        config: JSON of `models.knowledge.config.StudentConfig`.
        workspace: folder that outlives the step; checkpoints lie in it.
        code_version: version of the library; part of the cache key.
        student: the folder `model` with weights and calibration, and the answers to held-out items.
        metrics: validation loss, share of valid answers, agreement with the teacher facet by facet.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from models.knowledge.config import StudentConfig
    from models.knowledge.teacher_student.distill_teacher import distill_teacher as run

    run(
        Path(dataset.path),
        Path(knowledge.path),
        StudentConfig.model_validate_json(config),
        checkpoints=Path(workspace) / "checkpoints" / "student",
        out=Path(student.path),
    )
    log_lineage(student, metrics)
