"""Training that starts from imported weights: what a network is before its first step, and what a bundle says of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import GPT2Config, GPT2Model

from benchmarks.classification.published import TextSizes
from benchmarks.classification.published_files import bert_shapes, random_state, resnet_shapes
from crrg.cli.models import starts_of
from crrg.config import presets
from crrg.config.base import STAGES, Settings
from crrg.config.models import ClipArchitecture, DetectorArchitecture, GeneratorArchitecture
from crrg.config.references import StageResult
from crrg.config.running import RetrainConfig
from crrg.config.training import ClipTraining, InitialWeights
from crrg.data.dataset.pairs import read_pairs, resolve_dataset
from crrg.data.published_tokenizers import PublishedTokenizer, bert_tokenizer
from crrg.data.tokenizer import END_TOKEN, PLACEHOLDER_TOKEN, PhraseTokenizer
from crrg.domain.study import Split
from crrg.errors import ConfigError, ModelError
from crrg.importers.imported import ImportedStage, write_import
from crrg.importers.licences import LICENCES
from crrg.inference.pipeline import ReportPipeline
from crrg.models.clip import ClipModel
from crrg.models.detector import RegionDetector
from crrg.models.report_generator import ReportGenerator
from crrg.operations.registry.assemble import assemble_bundle
from crrg.operations.registry.importing import import_checkpoint
from crrg.operations.training import train
from crrg.registry.bundle import read_bundle
from crrg.registry.imported import read_import
from crrg.storage import Storage
from crrg.training import clip, detector, generator
from crrg.training.checkpoint import read_stage
from crrg.training.clip_start import clip_start, load_clip_start
from crrg.training.detector import build_detector
from crrg.training.initial_weights import detector_start, generator_start, load_generator_start
from tests.support.drawn_bundle import draw_dataset
from tests.support.smallest_stages import Unregistered, noting_start, remembered, smallest

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{each}" for each in "aeiou")]
WORDS += [f"[unused{number}]" for number in range(300 - len(WORDS))]
PHRASES = ["the left lung is clear without effusion", "a small right pleural effusion has grown since", END_TOKEN]
PUBLISHED_CLIP = ClipArchitecture(
    input_size=32, image_width=8, pixel_mean=(0.4,), text_layers=1, text_hidden_size=64, text_vocab_size=300,
    text_heads=1, max_text_length=24, projection_size=16, projects_evidence=False, label_head="none", num_labels=0,
    text_types=2,
)  # fmt: skip


DETECTOR = DetectorArchitecture(input_size=64, width=8, anchor_sizes=(9,), roi_channels=4, num_proposals=12)


def gpt2_vocabulary() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=320, special_tokens=[END_TOKEN], initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(PHRASES, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Imported weights by kind."""
    home = tmp_path_factory.mktemp("imported")
    torch.manual_seed(5)
    save_file(random_state(resnet_shapes()), home / "resnet50.safetensors")
    import_checkpoint("resnet50", home / "resnet50.safetensors", home / "resnet50")
    tokenizer = gpt2_vocabulary()
    tokenizer.save(str(home / "tokenizer.json"))
    config = GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=80, n_embd=64, n_layer=2, n_head=1)
    save_file(GPT2Model(config).state_dict(), home / "gpt2.safetensors")
    import_checkpoint("gpt2", home / "gpt2.safetensors", home / "gpt2", home / "tokenizer.json")
    import_checkpoint("gpt2", home / "gpt2.safetensors", home / "speechless")
    save_file(random_state(bert_shapes(TextSizes(64, 1, 300, 100))), home / "bert.safetensors")
    (home / "vocab.txt").write_text("\n".join(WORDS))
    import_checkpoint("bert", home / "bert.safetensors", home / "bert", home / "vocab.txt")
    write_import([ImportedStage("detector", RegionDetector(DETECTOR), {"architecture": DETECTOR.model_dump()}, {})],
                 home / "detector", "rgrg", LICENCES["rgrg"])  # fmt: skip
    vocabulary = bert_tokenizer(WORDS, lower_case=True)
    about = {
        "architecture": PUBLISHED_CLIP.model_dump(mode="json"),
        "tokenizer_kind": "bert",
        "tokenizer_sha256": PublishedTokenizer(vocabulary, "bert").sha256,
    }
    published = ImportedStage("clip", ClipModel(PUBLISHED_CLIP), about, {}, {"tokenizer.json": vocabulary})
    write_import([published], home / "clip", "cxr-clip", LICENCES["cxr-clip"])
    write_import([ImportedStage("clip", published.module, {**about, "tokenizer_sha256": ""}, {})],
                 home / "films", "cxr-clip", LICENCES["cxr-clip"])  # fmt: skip
    return {path.name: str(path) for path in home.iterdir() if path.is_dir()}


@dataclass(frozen=True)
class Trained:
    storage: Storage
    stages: dict[str, StageResult]
    before: dict[str, dict[str, Tensor]]
    form: RetrainConfig

    def state(self, stage: str) -> dict[str, Tensor]:
        return load(read_stage(self.storage, self.stages[stage])[1])


@pytest.fixture(scope="module")
def trained(folders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Four stages that started from imported weights, and their networks before the first step."""
    home = tmp_path_factory.mktemp("started")
    storage = Storage(str(home / "root"))
    draw_dataset(storage, home / "source", "drawn", 0.5, 0.25)
    weights = InitialWeights(
        detector=folders["detector"], generator=folders["gpt2"], clip=folders["clip"], freeze_language_model=True
    )
    before: dict[str, dict[str, Tensor]] = {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", smallest)
        patch.setattr(train, "open_tracker", remembered)
        patch.setattr(train, "ModelRegistry", Unregistered)
        for module in (detector, generator, clip):
            patch.setattr(module, "fit", noting_start(module.fit, before))
        retrain = RetrainConfig(dataset="drawn", device="cpu", num_steps=2, initial_weights=weights)
        settings = Settings(root=storage.root)
        found = train.train_stages(STAGES, retrain.stage_config(), storage, settings)
        yield Trained(storage, {each.stage: each for each in found}, before, retrain)


def imported(folder: str, part: str) -> dict[str, Tensor]:
    return load(read_import(Path(folder), part)[1]["model.safetensors"])


def test_a_detector_starts_from_the_imported_one_and_learns_on(trained: Trained, folders: dict[str, str]) -> None:
    before, after = trained.before["detector"], trained.state("detector")
    theirs = imported(folders["detector"], "detector")
    learnt = [name for name in theirs if not name.startswith("shape_prior.")]
    assert all(torch.equal(before[name], theirs[name]) for name in learnt)
    assert not torch.equal(after["box_head.cls_score.weight"], theirs["box_head.cls_score.weight"])
    config, _ = read_stage(trained.storage, trained.stages["detector"])
    assert config["architecture"]["anchor_sizes"] == [9], "not the preset's"


def test_a_grey_film_gives_what_three_equal_channels_give(folders: dict[str, str]) -> None:
    smaller = smallest().detector
    architecture = smaller.architecture.model_copy(update={"backbone": "resnet50", "input_size": 64})
    settings, start = detector_start(smaller.model_copy(update={"architecture": architecture}), folders["resnet50"])
    backbone = build_detector(settings, start).backbone.eval()
    theirs = imported(folders["resnet50"], "resnet50")
    assert all(torch.equal(backbone.state_dict()[name], theirs[name]) for name in theirs if name != "body.0.weight")
    film = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    first = torch.nn.functional.conv2d(film.expand(-1, 3, -1, -1), theirs["body.0.weight"], stride=2, padding=3)
    torch.testing.assert_close(backbone.body[0](film), first, rtol=0, atol=1e-5)


def test_a_frozen_language_model_is_the_imported_one_before_and_after(
    trained: Trained, folders: dict[str, str]
) -> None:
    before, after = trained.before["generator"], trained.state("generator")
    theirs = imported(folders["gpt2"], "gpt2")
    for name, tensor in theirs.items():
        for state in (before, after):
            ours = state[f"decoder.transformer.{name}"]
            assert torch.equal(ours[: len(tensor)], tensor[: len(ours)]), name
    assert len(after["decoder.transformer.wte.weight"]) == len(theirs["wte.weight"]) + 1
    torch.testing.assert_close(after["decoder.transformer.wte.weight"][-1], theirs["wte.weight"].mean(dim=0))
    for name in ("decoder.transformer.h.1.attn.uk.weight", "feature_space_transformation.0.weight"):
        assert not torch.equal(before[name], after[name]), "what conditions it learns"


def test_a_placeholder_is_one_token_of_an_imported_vocabulary(trained: Trained) -> None:
    config, _ = read_stage(trained.storage, trained.stages["generator"])
    tokenizer = PhraseTokenizer(trained.storage.get(f"{trained.stages['generator'].prefix}/tokenizer.json"))
    assert config["architecture"]["vocab_size"] == tokenizer.vocab_size
    assert tokenizer.encode(f"seen {PLACEHOLDER_TOKEN}")[-1] == tokenizer.placeholder_id == tokenizer.vocab_size - 1


def test_clip_starts_from_all_that_was_imported_but_a_label_head(trained: Trained, folders: dict[str, str]) -> None:
    before, theirs = trained.before["clip"], imported(folders["clip"], "clip")
    for name, tensor in theirs.items():
        assert torch.equal(before[name], tensor), name
    assert {name.split(".")[0] for name in set(before) - set(theirs)} == {"label_head"}
    config, _ = read_stage(trained.storage, trained.stages["clip"])
    assert config["architecture"]["pixel_mean"] == [0.4]
    assert config["architecture"]["label_head"] == "places"
    assert config["tokenizer_kind"] == "bert"


def test_a_bundle_says_whose_weights_it_started_from_and_reads_their_words(trained: Trained) -> None:
    dataset = resolve_dataset(trained.storage, "drawn", "")
    bundle = read_bundle(
        trained.storage, assemble_bundle(list(trained.stages.values()), dataset.version, 64, trained.storage)
    )
    card = bundle.files["model_card.md"].decode()
    assert re.search(r"\| clip \| clip of cxr-clip \| `[0-9a-f]{16}` \| CC BY-NC 4.0: .*non-commercial", card)
    assert "| detector | detector of rgrg |" in card
    assert "| generator | gpt2 of gpt2 |" in card
    pipeline = ReportPipeline.from_bundle(bundle, torch.device("cpu"))
    assert pipeline.clip_tokenizer.text_ids("a b", 24) == [2, 4, 5, 3]
    films = [pair.film for pair in read_pairs(trained.storage, dataset, Split.TRAIN) if pair.film is not None]
    answers = pipeline.ask(films[:2], ["hernia"])
    assert answers["hernia"].probability.shape == (2,)


def test_other_weights_are_another_stage_and_equal_ones_are_found(trained: Trained) -> None:
    form, settings = trained.form.stage_config(), Settings(root=trained.storage.root)
    again = train.train_stage("clip", form, trained.storage, settings)
    assert again.reused
    assert again.config_hash == trained.stages["clip"].config_hash
    random = form.model_copy(update={"initial_weights": InitialWeights()})
    other = train.train_stage("clip", random, trained.storage, settings)
    assert other.config_hash != again.config_hash
    config, _ = read_stage(trained.storage, other)
    assert "initial_weights" not in config


def test_a_whole_detector_brings_its_architecture(tmp_path: Path) -> None:
    architecture = DetectorArchitecture(input_size=64, width=8, anchor_sizes=(9,), roi_channels=4, num_proposals=12)
    model = RegionDetector(architecture)
    about = {"architecture": architecture.model_dump(mode="json")}
    write_import([ImportedStage("detector", model, about, {})], tmp_path, "rgrg", LICENCES["rgrg"])
    settings, start = detector_start(smallest().detector, str(tmp_path))
    assert settings.architecture == architecture
    found = build_detector(settings, start).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())
    few = {"architecture": {**about["architecture"], "num_regions": 3}}
    write_import([ImportedStage("detector", model, few, {})], tmp_path, "rgrg", LICENCES["rgrg"])
    with pytest.raises(ConfigError, match="num_regions is 29 in this training and 3 in the imported detector"):
        detector_start(smallest().detector, str(tmp_path))


def test_a_whole_generator_is_taken_as_it_is(tmp_path: Path) -> None:
    vocabulary = gpt2_vocabulary()
    architecture = GeneratorArchitecture(
        num_layers=1, hidden_size=32, vocab_size=vocabulary.get_vocab_size(), feature_size=16,
        condition_on_findings=False, position_table="wte", freeze_language_model=True,
    )  # fmt: skip
    model = ReportGenerator(architecture)
    files = {"tokenizer.json": vocabulary.to_str().encode()}
    digest = hashlib.sha256(files["tokenizer.json"]).hexdigest()
    about = {"architecture": architecture.model_dump(mode="json"), "tokenizer_sha256": digest}
    write_import([ImportedStage("generator", model, about, {}, files)], tmp_path, "rgrg", LICENCES["rgrg"])
    settings, start = generator_start(smallest().generator, str(tmp_path), freeze=False)
    assert start is not None
    assert settings.architecture == architecture.model_copy(update={"freeze_language_model": False})
    longer = settings.architecture.model_copy(update={"vocab_size": architecture.vocab_size + 1})
    started = ReportGenerator(longer)
    load_generator_start(started, start)
    token_ids, condition = torch.tensor([[0, 5, 9]]), torch.ones(1, 1, 32)
    wanted = model.eval()(token_ids, condition)
    torch.testing.assert_close(started.eval()(token_ids, condition)[..., :-1], wanted)
    other = ReportGenerator(longer.model_copy(update={"feature_size": 24}))
    with pytest.raises(ConfigError, match="feature_size is 24 in this training and 16 in the imported generator"):
        load_generator_start(other, start)


def test_two_towers_start_from_two_folders(folders: dict[str, str]) -> None:
    training = ClipTraining(architecture=ClipArchitecture(image_tower="resnet50", input_size=64, text_layers=3))
    both = InitialWeights(clip=folders["resnet50"], text_tower=folders["bert"])
    settings, start = clip_start(training, both)
    architecture = settings.architecture
    assert architecture.pixel_mean == (0.485, 0.456, 0.406)
    assert (architecture.text_layers, architecture.text_hidden_size, architecture.text_positions) == (1, 64, 100)
    vocabulary = start.vocabulary()
    assert vocabulary is not None
    assert vocabulary.text_ids("a", 8) == [2, 4, 3]
    model = ClipModel(architecture)
    load_clip_start(model, start)
    found = model.state_dict()
    for part, prefix in (("resnet50", "image_tower"), ("bert", "text_tower")):
        for name, tensor in imported(folders[part], part).items():
            assert torch.equal(found[f"{prefix}.{name}"], tensor), name


def test_without_a_vocabulary_only_the_films_side_is_taken(folders: dict[str, str]) -> None:
    settings, start = clip_start(smallest().clip, InitialWeights(clip=folders["films"]))
    assert (settings.architecture.image_width, settings.architecture.text_hidden_size) == (8, 16)
    assert start.vocabulary() is None
    model = ClipModel(settings.architecture)
    load_clip_start(model, start)
    theirs = imported(folders["films"], "clip")
    assert torch.equal(model.state_dict()["image_tower.stem.0.weight"], theirs["image_tower.stem.0.weight"])


def test_what_does_not_fit_says_what_and_the_way_out(folders: dict[str, str], tmp_path: Path) -> None:
    stages = smallest()
    with pytest.raises(ConfigError, match=r"backbone is conv in this training and resnet50.*such as base"):
        detector_start(stages.detector, folders["resnet50"])
    with pytest.raises(ConfigError, match=r"the folder holds gpt2 of gpt2; give one that holds detector or resnet50"):
        detector_start(stages.detector, folders["gpt2"])
    with pytest.raises(ModelError, match="not written by `crrg import`"):
        detector_start(stages.detector, str(tmp_path))
    with pytest.raises(ConfigError, match=r"image_tower is conv.*such as base"):
        clip_start(stages.clip, InitialWeights(clip=folders["resnet50"]))
    with pytest.raises(ConfigError, match="brings its own text tower"):
        clip_start(stages.clip, InitialWeights(clip=folders["clip"], text_tower=folders["bert"]))
    long = stages.clip.model_copy(
        update={"architecture": stages.clip.architecture.model_copy(update={"max_text_length": 101})}
    )
    with pytest.raises(ConfigError, match="max_text_length is 101 in this training and at most 100"):
        clip_start(long, InitialWeights(text_tower=folders["bert"]))
    with pytest.raises(ConfigError, match="without its vocabulary; import it again with --tokenizer"):
        generator_start(stages.generator, folders["speechless"], freeze=False)
    with pytest.raises(ValueError, match="only an imported language model can be frozen"):
        InitialWeights(freeze_language_model=True)


def test_flags_name_the_field_of_their_stage() -> None:
    assert starts_of("joint", "a", "b", None) == {"clip": "a", "text_tower": "b"}
    assert starts_of("generator", "a", None, True) == {"generator": "a", "freeze_language_model": True}
    assert starts_of("clip", None, None, None) is None
    assert starts_of("selector", "a", None, None) == {"selector": "a"}
