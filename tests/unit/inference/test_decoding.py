"""Decoding phrases with a network: agreement with teacher forcing, bans, order, limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crrg.config.models import DecodingSettings, GeneratorArchitecture
from crrg.inference.decoding import DecodedPhrase, decode_hypotheses, decode_phrases
from crrg.models.report_generator import ReportGenerator


class Numbers:
    """Spells token ids as numbers."""

    end_id = 0
    placeholder_id = 1

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join(str(i) for i in ids)


def talkative_generator(end_bias: float = 0.0) -> ReportGenerator:
    torch.manual_seed(1)
    model = ReportGenerator(
        GeneratorArchitecture(
            num_layers=2, num_heads=2, hidden_size=32, vocab_size=300, max_length=14, feature_size=8, dropout=0.0
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        end = model.decoder.transformer.wte.weight[0]
        model.decoder.transformer.ln_f.bias += end_bias * end / end.square().sum()
    return model.eval()


def conditions(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, 8)), rng.integers(0, 29, num), rng.integers(0, 2, (num, 15)).astype(float)


@pytest.mark.parametrize(("num_beams", "length_penalty"), [(1, 1.0), (3, 1.0), (3, 0.7), (3, 0.0)])
def test_logprob_is_the_mean_of_the_tokens_own(num_beams: int, length_penalty: float) -> None:
    model = talkative_generator(end_bias=2.0)
    features, regions, flags = conditions(12)
    settings = DecodingSettings(num_beams=num_beams, num_slots=4, no_repeat_ngram=0, length_penalty=length_penalty)
    phrases = decode_phrases(model, Numbers(), features, regions, flags, settings)
    assert {phrase.is_finished for phrase in phrases} == {True, False}
    condition = model.encode_condition(
        torch.tensor(features, dtype=torch.float32), torch.tensor(regions), torch.tensor(flags, dtype=torch.float32)
    )
    for row, phrase in enumerate(phrases):
        ids = [0, *(int(word) for word in phrase.text.split())]
        targets = ids[1:] + ([0] if phrase.is_finished else [])
        logprobs = model(torch.tensor([ids]), condition[[row]]).detach().log_softmax(-1)[0]
        total = sum(float(logprobs[i, token]) for i, token in enumerate(targets))
        assert phrase.logprob == pytest.approx(total / len(ids), abs=1e-4)


def test_placeholder_and_empty_phrases_never_come() -> None:
    model = talkative_generator()
    with torch.no_grad():
        # both would win every step: end first, then the placeholder
        model.decoder.transformer.ln_f.bias.copy_(torch.ones(32))
        model.decoder.transformer.wte.weight[0] = 3.0
        model.decoder.transformer.wte.weight[1] = 2.9
    phrases = decode_phrases(model, Numbers(), *conditions(5), DecodingSettings(num_beams=2, num_slots=4))
    assert len(phrases) == 5
    for phrase in phrases:
        words = phrase.text.split()
        assert words
        assert "1" not in words


def test_a_loop_is_broken_at_the_limit_of_repeats() -> None:
    model = talkative_generator()
    with torch.no_grad():
        model.decoder.transformer.ln_f.bias.copy_(torch.ones(32))
        model.decoder.transformer.wte.weight[7] = 3.0
    looping, broken = (
        decode_phrases(model, Numbers(), *conditions(1), DecodingSettings(num_beams=1, no_repeat_ngram=n, num_slots=2))[
            0
        ]
        for n in (0, 3)
    )
    assert looping.text.split() == ["7"] * 13
    assert broken.text.split()[:4] != ["7"] * 4
    assert not looping.is_finished


def test_no_word_comes_twice_where_runs_of_one_may_not() -> None:
    settings = DecodingSettings(num_beams=3, no_repeat_ngram=1, num_slots=3, follow_flags=False)
    for phrase in decode_phrases(talkative_generator(end_bias=1.0), Numbers(), *conditions(6), settings):
        words = phrase.text.split()
        assert len(words) == len(set(words)) > 0


def test_rows_keep_their_order_and_none_gives_none() -> None:
    model = talkative_generator()
    features, regions, flags = conditions(11)
    settings = DecodingSettings(num_beams=2, num_slots=4)
    forward = decode_phrases(model, Numbers(), features, regions, flags, settings)
    backward = decode_phrases(
        model, Numbers(), features[::-1].copy(), regions[::-1].copy(), flags[::-1].copy(), settings
    )
    assert [phrase.text for phrase in backward[::-1]] == [phrase.text for phrase in forward]
    assert len({phrase.text for phrase in forward}) > 3
    assert decode_phrases(model, Numbers(), *conditions(0), settings) == []


def test_a_row_without_numbers_says_nothing_and_leaves_the_others_alone() -> None:
    model = talkative_generator(end_bias=1.0)
    features, regions, flags = conditions(14)
    settings = DecodingSettings(num_beams=2, num_slots=4)
    wanted = decode_phrases(model, Numbers(), features, regions, flags, settings)
    features[[1, 2]], features[7, 3] = np.nan, np.inf
    found = decode_phrases(model, Numbers(), features, regions, flags, settings)
    for row, phrase in enumerate(found):
        if row in (1, 2, 7):
            assert phrase == DecodedPhrase("", 0.0, False)
        else:
            assert phrase.text == wanted[row].text
            assert abs(phrase.logprob - wanted[row].logprob) <= 1e-6


def test_max_tokens_counts_the_begin_token() -> None:
    settings = DecodingSettings(num_beams=1, max_tokens=5, num_slots=2, no_repeat_ngram=0)
    phrases = decode_phrases(talkative_generator(), Numbers(), *conditions(3), settings)
    assert max(len(phrase.text.split()) for phrase in phrases) == 4


@pytest.mark.parametrize("penalty", [1.0, 0.5])
def test_hypotheses_come_with_the_scores_they_are_ranked_by(penalty: float) -> None:
    settings = DecodingSettings(num_beams=3, max_tokens=12, length_penalty=penalty)
    found = decode_hypotheses(talkative_generator(), Numbers(), *conditions(4), settings)
    for hypotheses in found:
        scores = [each.score for each in hypotheses]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        for each in hypotheses:
            length = len(each.text.split()) + 1
            assert each.score == pytest.approx(each.logprob * length ** (1 - penalty), rel=1e-5)


def test_the_papers_search_may_say_nothing_and_say_placeholders() -> None:
    model = talkative_generator()
    with torch.no_grad():
        model.decoder.transformer.ln_f.bias.copy_(torch.ones(32))
        model.decoder.transformer.wte.weight[0] = 3.0
        model.decoder.transformer.wte.weight[1] = 2.9
    settings = DecodingSettings(num_beams=2, compat="rgrg", follow_flags=False)
    (found,) = decode_hypotheses(model, Numbers(), *conditions(1), settings)
    assert found[0].text == ""
    assert "1" in found[1].text.split()


class Spaced(Numbers):
    """Spells every token as one that published vocabularies put a blank before."""

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join(["The heart isn't", *("n't" if i % 2 else "." for i in ids if i != self.end_id)])


def test_the_papers_search_spells_as_published_code_does() -> None:
    plain = DecodingSettings(num_beams=2, follow_flags=False)
    (found,) = decode_hypotheses(talkative_generator(), Spaced(), *conditions(1), plain)
    assert " ." in found[0].text or " n't" in found[0].text
    (found,) = decode_hypotheses(
        talkative_generator(), Spaced(), *conditions(1), plain.model_copy(update={"compat": "rgrg"})
    )
    assert " ." not in found[0].text
    assert " n't" not in found[0].text


def test_phrases_have_the_lengths_they_are_made_to_have() -> None:
    settings = DecodingSettings(num_beams=2, num_slots=3)
    wanted = [2, 9, 1, 5, 5, 3, 7]
    found = decode_hypotheses(talkative_generator(), Numbers(), *conditions(7), settings, num_words=wanted)
    assert [len(phrases[0].text.split()) for phrases in found] == wanted
    assert all(phrases[0].is_finished for phrases in found)


class Findings(Numbers):
    """Spells some token as a finding, everything else as nothing worth a label."""

    def __init__(self, token: int) -> None:
        self.token = token

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join("Pleural effusion." if i == self.token else f"w{i}" for i in ids)


def test_of_the_hypotheses_the_one_is_taken_that_states_the_flags() -> None:
    model, (features, regions, flags) = talkative_generator(end_bias=2.0), conditions(12)
    plain = DecodingSettings(num_beams=4, num_slots=4, follow_flags=False, length_penalty=1.0)
    flags = np.zeros_like(flags)
    likeliest = decode_phrases(model, Numbers(), features, regions, flags, plain)
    follow = plain.model_copy(update={"follow_flags": True})
    num_fewer = 0
    # one token after the other is made a finding that no flag asks for
    for token in sorted({int(word) for phrase in likeliest for word in phrase.text.split()[1:]}):
        following = decode_phrases(model, Findings(token), features, regions, flags, follow)
        for new, old in zip(following, likeliest, strict=True):
            was_stated, is_stated = str(token) in old.text.split(), "effusion" in new.text
            assert is_stated <= was_stated
            num_fewer += was_stated and not is_stated
            assert new.logprob <= old.logprob + 1e-6
    assert num_fewer > 0
