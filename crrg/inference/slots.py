"""How many phrases are computed at once.

On a CPU it is for the settings to say. A GPU takes about as long for a step of hundreds of phrases as for one of a few,
so there as many are computed as wait, as far as its memory goes. Its libraries may add in another order where there are
more: with rounded weights another word may then be chosen where two are nearly as likely.
"""

from __future__ import annotations

from crrg.config.running import DecodingSettings
from crrg.device import free_memory
from crrg.models.decoder import PseudoSelfAttentionDecoder
from crrg.models.step_graphs import ROOM_NODES, StepGraphs

MOST_SLOTS = 512
"""More at once keep a large GPU no busier."""
LEAST_RECORDED = 32
"""Fewer recorded slots cost a step as much, and would only be more shapes to record."""
SHARE_OF_MEMORY = 4
"""One in so many free bytes is for phrases, so that caches kept of several shapes leave most for reading films."""
LOGITS_KEPT = 4
"""Logits of all words that a step has in memory at once, with what is made of them."""


def slots_at_once(
    decoder: PseudoSelfAttentionDecoder, num_phrases: int, settings: DecodingSettings, graphs: StepGraphs | None
) -> int:
    """Return how many slots phrases pass through.

    Args:
        decoder: Decides the device.
        num_phrases: Those waiting.
        settings: How they are searched.
        graphs: What replays recorded steps, always of all slots: their number then is a power of two, so that few
            shapes are to be recorded.
    """
    weight = decoder.transformer.wte.weight
    num_phrases = max(num_phrases, 1)
    if weight.device.type != "cuda" and graphs is None:
        return min(settings.num_slots, num_phrases)
    free = free_memory(weight.device) + (0 if graphs is None else graphs.num_bytes)
    most = min(free // (SHARE_OF_MEMORY * _slot_bytes(decoder, settings.num_beams)), MOST_SLOTS)
    most = 1 << max(most.bit_length() - 1, 0)
    if graphs is None:
        return min(most, num_phrases)
    return min(most, 1 << (max(num_phrases, LEAST_RECORDED) - 1).bit_length())


def _slot_bytes(decoder: PseudoSelfAttentionDecoder, num_beams: int) -> int:
    """Return what a slot takes: keys and values of all blocks, and logits in float32."""
    config, weight = decoder.transformer.config, decoder.transformer.wte.weight
    nodes = ROOM_NODES * 2 * config.n_layer * config.n_embd * weight.element_size()
    return int(nodes + LOGITS_KEPT * num_beams * len(weight) * 4)
