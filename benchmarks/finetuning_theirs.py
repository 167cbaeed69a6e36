"""One fine-tuning run with transformers' Trainer, as its example scripts run_glue.py and run_qa.py do it; nothing of ours is used.

python -m benchmarks.finetuning_theirs TASK SEED FOLDER SCORES.json

Their defaults, save that batches are padded to their longest only (--pad_to_max_length False), products are in bfloat16
(--bf16) and attention is written out (attn_implementation="eager": on a CPU the quicker one when attention has dropout).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from torchmetrics.text import SQuAD

from benchmarks.finetuning import TASKS, Settings, checkpoint

COLUMNS = {"cola": ([3], 1), "mrpc": ([3, 4], 0), "stsb": ([7, 8], 9), "sst2": ([0], 1)}  # of the texts and the label
NO_HEADER = {"cola"}
BEST, LONGEST_ANSWER = 20, 30  # utils_qa.py's n_best_size and max_answer_length


def trainer(model: Any, tokenizer: Any, settings: Settings, seed: int, scratch: str, training: Dataset) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=scratch,
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        warmup_steps=settings.warmup,  # below 1: a share of the steps
        seed=seed,
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    return transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=training,
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )


# --- GLUE -------------------------------------------------------------------------------------------------------------


def rows(task: str, path: Path) -> tuple[list[list[str]], list[float]]:
    """Texts, a list for each column, and labels. No quoting: a quotation mark in GLUE's files is one."""
    lines = path.read_text("utf-8-sig").splitlines()[task not in NO_HEADER :]
    fields = [line.split("\t") for line in lines]
    texts, label = COLUMNS[task]
    return [[row[column] for row in fields] for column in texts], [float(row[label]) for row in fields]


def glue(task: str, seed: int, folder: Path, scratch: str) -> dict[str, float]:
    settings, numeric = TASKS[task].settings, task == "stsb"
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint())
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        checkpoint(), num_labels=1 if numeric else 2, attn_implementation="eager"
    )
    splits = {}
    for split in ("train", "dev"):
        texts, labels = rows(task, folder / f"{split}.tsv")
        encoded = tokenizer(*texts, truncation=True, max_length=settings.length)
        splits[split] = Dataset.from_dict({**encoded, "label": labels if numeric else [int(label) for label in labels]})
    its_trainer = trainer(model, tokenizer, settings, seed, scratch, splits["train"])
    loss = its_trainer.train().training_loss
    found = its_trainer.predict(splits["dev"])
    return glue_scores(task, found.predictions, found.label_ids) | {"train_loss": loss}


def glue_scores(task: str, logits: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    if task == "stsb":
        said = logits[:, 0]
        return {"pearson": float(pearsonr(said, gold).statistic), "spearman": float(spearmanr(said, gold).statistic)}
    said = logits.argmax(1)
    if task == "cola":
        return {"matthews": float(matthews_corrcoef(gold, said))}
    accuracy = {"accuracy": float(accuracy_score(gold, said))}
    return accuracy | {"f1": float(f1_score(gold, said))} if task == "mrpc" else accuracy


# --- SQuAD ------------------------------------------------------------------------------------------------------------


def questions(path: Path) -> list[dict[str, Any]]:
    content = json.loads(path.read_text("utf-8"))["data"]
    return [
        {"context": passage["context"], "answers": asked["answers"], "question": asked["question"].lstrip()}
        for article in content
        for passage in article["paragraphs"]
        for asked in passage["qas"]
    ]


def windows(tokenizer: Any, asked: list[dict[str, Any]], settings: Settings) -> tuple[Any, list[int], list[Any]]:
    """Encoded windows, the question that each is of, and each token's characters in the context (None outside it)."""
    encoded = tokenizer(
        [each["question"] for each in asked],
        [each["context"] for each in asked],
        truncation="only_second",
        max_length=settings.length,
        stride=settings.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    owners, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    inside = [
        [span if part == 1 else None for span, part in zip(spans, encoded.sequence_ids(number), strict=True)]
        for number, spans in enumerate(offsets)
    ]
    return encoded, owners, inside


def target(spans: list[Any], answer: dict[str, Any]) -> tuple[int, int]:
    """First and last token of an answer; those of [CLS] where the window does not hold the whole of it."""
    start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    places = [place for place, span in enumerate(spans) if span is not None]
    if not places or spans[places[0]][0] > start or spans[places[-1]][1] < end:
        return 0, 0
    first = max(place for place in places if spans[place][0] <= start)
    last = min(place for place in places if spans[place][1] >= end)
    return first, last


def best_span(context: str, found: list[tuple[list[Any], np.ndarray, np.ndarray]]) -> str:
    """The text of the best span of all windows: the highest sum of both scores among the 20 best starts and ends of each."""
    best, answer = -np.inf, ""
    for spans, starts, ends in found:
        first_places, last_places = (np.argsort(scores[: len(spans)])[: -BEST - 1 : -1] for scores in (starts, ends))
        for first in first_places:
            for last in last_places:
                begin, end, score = spans[first], spans[last], starts[first] + ends[last]
                if begin is None or end is None or not 0 <= last - first < LONGEST_ANSWER or score <= best:
                    continue
                best, answer = score, context[begin[0] : end[1]]
    return answer


def squad(seed: int, folder: Path, scratch: str) -> dict[str, float]:
    settings = TASKS["squad"].settings
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint())
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(checkpoint(), attn_implementation="eager")
    asked = questions(folder / "train-v1.1.json")
    encoded, owners, inside = windows(tokenizer, asked, settings)
    goals = [target(spans, asked[owner]["answers"][0]) for spans, owner in zip(inside, owners, strict=True)]
    starts, ends = zip(*goals, strict=True)
    training = Dataset.from_dict({**encoded, "start_positions": starts, "end_positions": ends})
    its_trainer = trainer(model, tokenizer, settings, seed, scratch, training)
    loss = its_trainer.train().training_loss

    asked = questions(folder / "dev-v1.1.json")
    encoded, owners, inside = windows(tokenizer, asked, settings)
    scores = its_trainer.predict(Dataset.from_dict(dict(encoded))).predictions
    by_question = defaultdict(list)
    for owner, *window in zip(owners, inside, *scores, strict=True):
        by_question[owner].append(tuple(window))
    answers = [best_span(each["context"], by_question[number]) for number, each in enumerate(asked)]
    return squad_scores(answers, [[gold["text"] for gold in each["answers"]] for each in asked]) | {"train_loss": loss}


def squad_scores(answers: list[str], gold: list[list[str]]) -> dict[str, float]:
    found = SQuAD()(
        [{"prediction_text": answer, "id": str(number)} for number, answer in enumerate(answers)],
        [
            {"answers": {"text": texts, "answer_start": [0] * len(texts)}, "id": str(number)}
            for number, texts in enumerate(gold)
        ],
    )
    return {name: float(value) / 100 for name, value in found.items()}  # shares, as all other scores are


def main() -> None:
    task, seed, folder, scores = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    transformers.set_seed(seed)  # before the model is made, as the scripts do: the head's first weights depend on it
    with tempfile.TemporaryDirectory() as scratch:
        found = squad(seed, folder, scratch) if task == "squad" else glue(task, seed, folder, scratch)
    scores.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
