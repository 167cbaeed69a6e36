"""MASS: an encoder reads a text with a fragment hidden, a decoder writes the fragment (Song et al. 2019,
https://arxiv.org/abs/1905.02450).
"""

from __future__ import annotations

from cloze.models.encoder_decoder import PostNormEncoderDecoder
from cloze.models.layers.heads import TiedHead


class Mass(PostNormEncoderDecoder):
    """Post-norm encoder and decoder with learned positions. The decoder's tokens take the rows of the position table that the batch
    says: those of the places in the text that they are to fill, wherever the fragment lies.

    The decoder attends to every place that the encoder has read. The authors' code hides the masked ones from it, of which the paper
    does not speak.
    """

    begins = "mask"

    def token_head(self) -> TiedHead:
        return TiedHead()
