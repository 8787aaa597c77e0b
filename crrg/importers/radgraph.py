"""RadGraph's and RadGraph-XL's published archive as our reader of reports.

Strict but for what RadGraph has and does not use: coreference, events, the pooler, positions stored as numbers. The
archive's own lists say what an entity may be; they also tell RadGraph from RadGraph-XL, which cut words differently.

Source: layout of DyGIE++ (Wadden et al., 2019) in allennlp, as RadGraph (Jain et al., 2021), RadGraph-XL (Delbrouck et
al., 2024) and the radgraph package, version 0.1.18, publish and read it.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crrg.config.report_models import ReportGraphArchitecture
from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.data.reports.report_words import WordStyle
from crrg.errors import ModelError
from crrg.importers.clip_towers import num_blocks, num_heads, shape_of
from crrg.importers.imported import PUBLISHED_FILE, ImportedStage
from crrg.importers.key_map import Rule, fit_module
from crrg.importers.licences import LICENCES
from crrg.importers.radgraph_archive import SOURCE, GraphArchive, open_graph_archive
from crrg.importers.torch_file import TorchContents
from crrg.importers.vocabulary import check_vocabulary
from crrg.models.report_graph import ReportGraphNetwork

_BERT = "_embedder.token_embedder_bert._matched_embedder.transformer_model"
_WIDTHS = "_endpoint_span_extractor._span_width_embedding.weight"
_HEAD_OF = re.compile(r"_ner\._ner_scorers\.(.+)__ner_labels\.1\._module\.weight")
_STYLES: tuple[tuple[WordStyle, tuple[str, ...]], ...] = (
    ("radgraph", ("ANAT-", "OBS-")),
    ("radgraph-xl", ("Anatomy::", "Observation::")),
)
"""How the labels of each begin."""


def import_radgraph(path: Path, tokenizer: bytes | None = None) -> list[ImportedStage]:
    """Read the published archive into our reader of reports.

    Args:
        path: ``model.tar.gz``, ``radgraph.tar.gz`` or ``radgraph-xl.tar.gz``, or a folder with the content of one.
        tokenizer: Bytes of the ``tokenizer.json`` of its BERT; without it no report can be read.

    Returns:
        One stage ``radgraph``.

    Raises:
        ModelError: It is no such archive, or a key is missing, unknown or of another shape.
    """
    with open_graph_archive(path) as archive:
        return [read_radgraph(archive, tokenizer)]


def read_radgraph(archive: GraphArchive, tokenizer: bytes | None = None) -> ImportedStage:
    """Read what the archive held into our reader of reports; see ``import_radgraph``."""
    dataset = _dataset(archive.tensors)
    architecture = _architecture(archive, dataset)
    module = ReportGraphNetwork(architecture)
    report = fit_module(module, archive.tensors, _rules(dataset), SOURCE)
    config = {
        "architecture": architecture.model_dump(mode="json"),
        "imported_from": SOURCE,
        "licence": LICENCES[SOURCE],
        "encoder": str(_setting(archive, "model.embedder.token_embedders.bert.model_name")),
        "tokenizer_sha256": "",
    }
    if tokenizer is None:
        return ImportedStage("radgraph", module, config, asdict(report))
    speller = PublishedTokenizer(tokenizer, "bert")
    check_vocabulary(
        speller.vocab_size, architecture.vocab_size, "network", f"give the one of {config['encoder']} with --tokenizer"
    )
    config["tokenizer_sha256"] = speller.sha256
    return ImportedStage("radgraph", module, config, asdict(report), {"tokenizer.json": tokenizer})


def _architecture(archive: GraphArchive, dataset: str) -> ReportGraphArchitecture:
    """Return sizes and labels: those of the tensors, which settings and lists must agree with."""
    tensors = archive.tensors
    if f"{_BERT}.embeddings.word_embeddings.weight" not in tensors and f"{_BERT}.layers.0.attn.Wqkv.weight" in tensors:
        raise ModelError("its encoder is ModernBERT, which is not read; take radgraph or radgraph-xl", SOURCE)
    vocab_size, width = shape_of(tensors, f"{_BERT}.embeddings.word_embeddings.weight", SOURCE)
    max_span_width, width_size = shape_of(tensors, _WIDTHS, SOURCE)
    _same(archive, "dataset_reader.max_span_width", max_span_width)
    _same(archive, "model.max_span_width", max_span_width)
    segment_length = _setting(archive, "dataset_reader.token_indexers.bert.max_length")
    _same(archive, "model.embedder.token_embedders.bert.max_length", segment_length)
    _same(archive, "model.modules.coref.coref_prop", 0, missing=0)
    for task in ("ner", "relation"):
        if not _setting(archive, f"model.loss_weights.{task}"):
            raise ModelError(f"it was not trained for {task}; give a model of both entities and relations", SOURCE)
    entities = _labels(archive, f"{dataset}__ner_labels")
    relations = _labels(archive, f"{dataset}__relation_labels")
    if not entities or entities[0]:
        raise ModelError("its list of entities does not begin with the empty label, for none", SOURCE)
    layers = f"_ner._ner_scorers.{dataset}__ner_labels.0._module._linear_layers"
    try:
        return ReportGraphArchitecture(
            num_layers=num_blocks(tensors, f"{_BERT}.encoder.layer"),
            num_heads=num_heads(width),
            hidden_size=width,
            vocab_size=vocab_size,
            num_positions=shape_of(tensors, f"{_BERT}.embeddings.position_embeddings.weight", SOURCE)[0],
            num_types=shape_of(tensors, f"{_BERT}.embeddings.token_type_embeddings.weight", SOURCE)[0],
            segment_length=segment_length,
            max_span_width=max_span_width,
            width_size=width_size,
            scorer_sizes=tuple(
                shape_of(tensors, f"{layers}.{layer}.bias", SOURCE, 1)[0]
                for layer in range(num_blocks(tensors, layers))
            ),
            spans_per_word=_setting(archive, "model.modules.relation.spans_per_word"),
            entity_labels=tuple(entities[1:]),
            relation_labels=tuple(relations),
            words=_style(entities[1:]),
        )
    except ValidationError as error:
        raise ModelError(f"the sizes of tensors and settings fit no such network; {PUBLISHED_FILE}", SOURCE) from error


def _dataset(tensors: TorchContents) -> str:
    """Return the name of the training data, which stands in the names of the heads; the package's own of several."""
    found = [match.group(1) for name in tensors.names() if (match := _HEAD_OF.fullmatch(name))]
    chosen = found if len(found) == 1 else [name for name in found if name in ("radgraph", "radgraph-xl")]
    if len(chosen) != 1:
        raise ModelError(
            f"it has heads for {len(found)} sets of labels, and one is expected; the file is not the published layout",
            SOURCE,
        )
    return chosen[0]


def _labels(archive: GraphArchive, name: str) -> list[str]:
    if name not in archive.labels:
        raise ModelError(f"it holds no vocabulary/{name}.txt; the archive is not the published layout", SOURCE)
    return archive.labels[name]


def _style(labels: list[str]) -> WordStyle:
    for style, beginnings in _STYLES:
        if labels and all(label.startswith(beginnings) for label in labels):
            return style
    raise ModelError("its entities are neither RadGraph's nor RadGraph-XL's, so how it cuts words is not known", SOURCE)


def _setting(archive: GraphArchive, name: str) -> Any:
    """Return a setting by its dotted name."""
    value: Any = archive.settings
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ModelError(f"its config.json has no {name}; the archive is not the published layout", SOURCE)
        value = value[part]
    return value


def _same(archive: GraphArchive, name: str, wanted: object, *, missing: object = None) -> None:
    """Refuse a setting that does not agree with the rest of the archive."""
    try:
        found = _setting(archive, name)
    except ModelError:
        if missing is None:
            raise
        found = missing
    if found != wanted:
        raise ModelError(f"its {name} is {found!r}, and {wanted!r} is expected", SOURCE)


def _rules(dataset: str) -> tuple[Rule, ...]:
    bert, own = re.escape(_BERT), re.escape(dataset)
    entities, relations = f"{own}__ner_labels", f"{own}__relation_labels"
    return (
        Rule(rf"{bert}\.(?:embeddings\.position_ids|pooler\..+)", None),
        Rule(rf"{bert}\.((?:embeddings|encoder)\..+)", r"bert.\1"),
        Rule(re.escape(_WIDTHS), "width_embedding.weight"),
        Rule(rf"_ner\._ner_scorers\.{entities}\.0\._module\._linear_layers\.(.+)", r"entity_scorer.hidden.\1"),
        Rule(rf"_ner\._ner_scorers\.{entities}\.1\._module\.(.+)", r"entity_scorer.out.\1"),
        Rule(
            rf"_relation\._mention_pruners\.{relations}\._scorer\.0\._module\._linear_layers\.(.+)",
            r"mention_scorer.hidden.\1",
        ),
        Rule(rf"_relation\._mention_pruners\.{relations}\._scorer\.1\._module\.(.+)", r"mention_scorer.out.\1"),
        Rule(rf"_relation\._relation_feedforwards\.{relations}\._linear_layers\.(.+)", r"relation_scorer.hidden.\1"),
        Rule(rf"_relation\._relation_scorers\.{relations}\.(.+)", r"relation_scorer.out.\1"),
        Rule(r"_(?:coref|events)\..+", None),
        Rule(rf"_(?:ner|relation)\.\w+\.(?!{own}__)[^.]+__(?:ner|relation)_labels\..+", None),
    )
