"""What a trained model says: fills blanks, goes on with a text, writes what sentinels stand for, writes a text again.

These functions take a model and its head as they are (any device, training or not) and leave them so; they draw on no
global randomness, so calling them while training changes nothing. A text's special tokens ("[MASK]", "<extra_id_0>")
are recognised where the text writes them.
"""

from cloze.inference.blanks import Filled, Guess, fill_blanks
from cloze.inference.decoding import Decoding
from cloze.inference.generate import generate
from cloze.inference.predict import predict
from cloze.inference.reading import BLANK, Speller, device_of, enclose, frame_of, judging
from cloze.inference.replaced import Doubted, replaced_tokens
from cloze.inference.samples import Samples, samples
from cloze.inference.tasks import objective_class, queries_learnt, task_learnt, task_of, tasks_of
from cloze.inference.vectors import Layer, Vectors, vectors
from cloze.inference.writing import continue_text, fill_fragments, fill_spans, rewrite
from cloze.tasks import TASKS, Task

__all__ = [
    "BLANK",
    "TASKS",
    "Decoding",
    "Doubted",
    "Filled",
    "Guess",
    "Layer",
    "Samples",
    "Speller",
    "Task",
    "Vectors",
    "continue_text",
    "device_of",
    "enclose",
    "fill_blanks",
    "fill_fragments",
    "fill_spans",
    "frame_of",
    "generate",
    "judging",
    "objective_class",
    "predict",
    "queries_learnt",
    "replaced_tokens",
    "rewrite",
    "samples",
    "task_learnt",
    "task_of",
    "tasks_of",
    "vectors",
]
