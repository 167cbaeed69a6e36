"""From a loaded model, texts and a task to what the model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from cloze.errors import Refusal, did_you_mean, with_article
from cloze.inference.blanks import fill_blanks
from cloze.inference.decoding import Decoding
from cloze.inference.replaced import replaced_tokens
from cloze.inference.tasks import leading, objective_class, task_learnt
from cloze.inference.vectors import vectors
from cloze.inference.writing import TOKENS, continue_text, fill_fragments, fill_spans, rewrite
from cloze.models.base import Backbone, Discriminator, EncoderDecoder, Steerable
from cloze.tasks import TASKS, Task

if TYPE_CHECKING:
    from cloze.loading import Pretrained

WRITING = tuple(each.name for each in fields(Decoding))


def predict(loaded: Pretrained, texts: Sequence[str], task: Task | None, settings: Mapping[str, Any]) -> list[Any]:
    """See `Pretrained.predict`."""
    head, tokenizer = loaded.head, loaded.tokenizer
    model: Backbone = loaded.model
    name = type(model).__name__
    able = loaded.tasks
    if task is not None and task not in TASKS:
        raise Refusal(f"task={task} is not there{did_you_mean(task, TASKS)}")
    if head is None and task not in able and able == ("vectors",):
        raise Refusal("this checkpoint has no token head, so it cannot predict tokens; it gives vectors only")
    learnt = objective_class(loaded.objective)
    chosen = task or loaded.task
    if chosen not in able:
        raise Refusal(f"task={chosen}: {with_article(name)} {model.role}; with this one: task={'|'.join(able)}.")
    writes = chosen in ("continue", "rewrite") or (chosen == "fill" and isinstance(model, EncoderDecoder))
    accepted = WRITING if writes else {"fill": ("k",), "vectors": ("layer",)}.get(chosen, ())
    settings = dict(settings)
    spoken: dict[str, Any] = {}
    if model.languages is not None and chosen in ("fill", "continue", "vectors"):
        accepted += ("language",)
        spoken["language"] = language_of(settings.pop("language", None), loaded.languages, model.languages)
    for setting in settings:
        if setting not in accepted:
            has = f"; it has: {', '.join(accepted)}." if accepted else "."
            raise Refusal(f"{setting} has no effect with task={chosen} of {with_article(name)}{has}")
    if head is None and loaded.generator_head is not None and isinstance(model, Discriminator):
        assert model.generator is not None
        model, head = model.generator, loaded.generator_head
    if chosen == "judge":
        assert loaded.judge is not None
        return list(loaded.judge(loaded.model, texts))
    if chosen == "replaced":
        assert loaded.discriminator is not None
        return cast("list[Any]", replaced_tokens(loaded.model, loaded.discriminator, tokenizer, texts))
    if chosen == "vectors":
        return cast(
            "list[Any]",
            vectors(loaded.model, tokenizer, texts, loaded.one_sided, queries=loaded.queries, **settings, **spoken),
        )
    assert head is not None
    ways: dict[str, Any]
    bare = (leading(loaded.objective) or {}).get("documents") == "continued"  # text that goes on has nothing around it
    if not writes:
        ways = {"bare": bare, "queries": loaded.queries, **spoken}
        return cast("list[Any]", fill_blanks(model, head, tokenizer, texts, **ways, **settings))  # type: ignore[arg-type]
    if chosen == "continue":
        whole = bool(getattr(learnt, "prefixes", False))
        steerable = isinstance(model, Steerable) and "mask" in tokenizer.vocabulary.special
        by_mask = steerable and task_learnt(loaded.objective) != "continue"
        ways = {"whole": whole, "by_mask": by_mask, "bare": bare, **spoken}
        return cast("list[Any]", continue_text(model, head, tokenizer, texts, Decoding(**settings), **ways))
    assert isinstance(model, EncoderDecoder)
    decoding = Decoding(**{"tokens": TOKENS, **settings})
    if chosen == "fill":
        fill = fill_spans if tokenizer.vocabulary.sentinels else fill_fragments
        return cast("list[Any]", fill(model, head, tokenizer, texts, decoding))
    begins = getattr(learnt, "begins", None) or model.begins
    return cast("list[Any]", rewrite(model, head, tokenizer, texts, decoding, begins))


def language_of(said: str | int | None, names: Sequence[str], count: int) -> int | None:
    """The number of a language, said by its name or number; where nothing is said, the first of those that have names, or none.
    Raises Refusal."""
    if said is None:
        return 0 if names else None
    known = list(names) or [str(number) for number in range(count)]
    if str(said) in known:
        return known.index(str(said))
    if str(said).isdigit() and int(said) < count:
        return int(said)
    raise Refusal(f"language={said} is not one that this model tells apart; accepted: {', '.join(known)}.")
