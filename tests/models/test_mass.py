"""MASS: the same network as BART's but for where its positions begin, so that transformers can be held against it."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from cloze.compose import compose
from cloze.models.bart import Bart
from cloze.models.base import Batch
from cloze.models.mass import Mass
from cloze.models.padding import flat
from tests.models.parity import scramble

transformers = import_module("transformers")

VOCABULARY, PAD = 60, 1


@pytest.mark.parametrize(
    ("size", "parameters"), [("base", 123_468_288), ("middle", 208_664_576), ("translation", 208_664_576)]
)
def test_published_sizes(size: str, parameters: int) -> None:
    """The authors give 123 and 208 million; here to the last one: embeddings, norms and layers as counted by hand."""
    settings = dict(compose(["model=mass", f"size=mass/{size}"]).config.model)
    assert settings.pop("_target_") == "cloze.models.mass.Mass"
    with torch.device("meta"):
        model = Mass(30522, 512, False, **settings)
        head = model.token_head()
    assert sum(p.numel() for p in [*model.parameters(), *head.parameters()]) == parameters
    width, inner = settings["width"], settings["inner"]
    attention, norm, feed_forward = 4 * (width * width + width), 2 * width, 2 * width * inner + inner + width
    layers = settings["layers"] * (3 * attention + 5 * norm + 2 * feed_forward)
    assert 30522 * width + 2 * (512 * width + norm) + layers == parameters


def test_a_fragment_at_its_own_positions_is_what_transformers_makes_of_padding_before_it() -> None:
    """transformers' decoder counts masked padding as positions: with as much of it as stands before the fragment in the text, the
    fragment lies where it lies in the text. The published recipe needs nothing more of a network."""
    config = transformers.BartConfig(
        vocab_size=VOCABULARY, d_model=48, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=70, decoder_ffn_dim=70, max_position_embeddings=40, dropout=0.0,
        pad_token_id=PAD,
    )  # fmt: skip
    theirs = transformers.BartForConditionalGeneration(config).eval()
    scramble(theirs)
    theirs.tie_weights()
    settings, weights = Bart.from_transformers(config.to_dict(), theirs.state_dict())
    model = Mass(VOCABULARY, 40, False, **settings).eval()
    state = {name.removeprefix("model."): w for name, w in weights.items() if name.startswith("model.")}
    model.load_state_dict({name: w[2:] if name.endswith("position.weight") else w for name, w in state.items()})
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in (9, 40, 1, 17)]
    fragments = [(0, 4), (25, 15), (0, 1), (9, 8)]  # where each begins, and how long it is
    written = [text[start : start + size] for text, (start, size) in zip(texts, fragments, strict=True)]
    decoder = flat(written, "causal")
    decoder.positions = torch.cat([torch.arange(start, start + size) for start, size in fragments])
    longest = max(map(len, texts))
    ids, mask = torch.full((4, longest), PAD), torch.zeros(4, longest, dtype=torch.int64)
    read, shown = ids.clone(), mask.clone()
    for b, (text, (start, size)) in enumerate(zip(texts, fragments, strict=True)):
        ids[b, : len(text)], mask[b, : len(text)] = torch.tensor(text), 1
        read[b, start : start + size], shown[b, start : start + size] = torch.tensor(written[b]), 1
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, decoder_input_ids=read, decoder_attention_mask=shown).logits
        states = model(Batch(flat(texts), {}, {}, {}, decoder)).last
        logits = model.token_head()(states, model.word_embedding)
    assert (logits - expected[shown.bool()]).abs().max() <= 1e-5


def test_positions_matter() -> None:
    torch.manual_seed(0)
    model = Mass(VOCABULARY, 40, False, layers=1, width=32, heads=2, inner=48).eval()
    here, there = flat([[5, 6, 7]], "causal"), flat([[5, 6, 7]], "causal")
    there.positions += 11
    read = flat([[8] * 20])
    states = [model(Batch(read, {}, {}, {}, decoder)).last for decoder in (here, there)]
    assert (states[0] - states[1]).abs().max() > 1e-3
