"""LLM distillation: a small language model learns to answer as the configured teacher does."""

from typing import NamedTuple

from kfp import dsl

from components.distill_knowledge.component import distill_knowledge
from components.distill_teacher.component import distill_teacher as distill_teacher_step
from pipelines.data_steps import collect_and_ingest
from pipelines.sharded_steps import distill_in_shards
from pipelines.step_settings import mount_workspace


class Student(NamedTuple):
    """The artifacts that a run hands out."""

    dataset: dsl.Dataset
    knowledge: dsl.Dataset
    student: dsl.Model


@dsl.pipeline(
    name="distill-teacher", description="Fine-tunes a small language model on what a teacher knows."
)
def distill_teacher(
    data_config: str,
    served_log_config: str,
    event_log_config: str,
    knowledge_config: str,
    knowledge_shards: list[str],
    student_config: str,
    workspace: str,
    code_version: str,
) -> Student:
    """Collect, ingest, distill knowledge, distill the teacher. What is known already comes from the cache.

    Args:
        data_config: JSON of `DataConfig`; the other `*_config` likewise, each of its room.
        served_log_config: see `data_config`.
        event_log_config: see `data_config`.
        knowledge_config: see `data_config`.
        knowledge_shards: the parts in which the catalogue is distilled at once: ["0/2", "1/2"].
        student_config: see `data_config`.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
        code_version: version of the library.
    """
    step_arguments = {"workspace": workspace, "code_version": code_version}
    dataset, _ = collect_and_ingest(
        data_config=data_config,
        served_log_config=served_log_config,
        event_log_config=event_log_config,
        workspace=workspace,
        code_version=code_version,
    )
    knowledge, _ = distill_in_shards(
        distill_knowledge,
        dataset=dataset,
        config=knowledge_config,
        shards=knowledge_shards,
        **step_arguments,
    )
    student_task = distill_teacher_step(
        dataset=dataset, knowledge=knowledge, config=student_config, **step_arguments
    )
    student = mount_workspace(student_task).outputs["student"]
    return Student(dataset=dataset, knowledge=knowledge, student=student)
