"""Tasks with labels that are right by construction, in the file formats of CoLA, SST-2, MRPC, STS-B, MNLI, SQuAD, CoNLL and SWAG."""

from cloze.data.world.tasks.write import write_tasks

__all__ = ["write_tasks"]
