"""The bundle as an MLflow model, for other people's programs.

They call ``mlflow.pyfunc.load_model("models:/crrg-pipeline@champion")``. MLflow stores this file as text beside the
bundle's files (models from code): nothing is pickled. The nightly does not use it; it reads the bundle from the store
and verifies it there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

if TYPE_CHECKING:
    from crrg.domain.study import Film


class BundleModel(PythonModel):  # type: ignore[misc]
    """Drafts reports for pictures of frontal chest films."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read and verify the bundle that lies beside the model."""
        from crrg.config.references import BundleRef
        from crrg.device import resolve_device
        from crrg.inference.pipeline import ReportPipeline
        from crrg.registry.bundle import read_bundle
        from crrg.storage import Storage

        folder = context.artifacts["bundle"]
        files = read_bundle(Storage(folder), BundleRef(bundle_id="", prefix=folder))
        self._pipeline = ReportPipeline.from_bundle(files, resolve_device("auto"))

    def predict(self, context: Any, model_input: list[dict[str, str]]) -> list[dict[str, str]]:  # noqa: ARG002
        """Draft one report per film.

        Args:
            context: MLflow's; unused.
            model_input: Each with ``image``: a DICOM, PNG or JPEG file, base64.

        Returns:
            Each with ``status`` (always ``DRAFT``), ``findings``, ``impression``, and ``probabilities`` as JSON.

        Raises:
            DataError: A file is no film, or its film is not frontal; named by its place, with a night's reason code.
        """
        films = list(_frontal_films([row["image"] for row in model_input], self._pipeline.image_size))
        return [
            {
                "status": "DRAFT",
                "findings": draft.findings,
                "impression": draft.impression,
                "probabilities": json.dumps(draft.probabilities),
            }
            for draft in self._pipeline.draft(films)
        ]


def _frontal_films(images: list[str], image_size: int) -> Iterator[Film]:
    """Yield films, decoded in a child without rights: whoever serves the model may be sent any bytes."""
    from crrg.data.decoding.pool import decode_many
    from crrg.errors import DataError
    from crrg.operations.night.reading import check_view

    outcomes = decode_many((base64.b64decode(image) for image in images), image_size, num_workers=1)
    for place, outcome in enumerate(outcomes, start=1):
        try:
            if isinstance(outcome, DataError):
                raise outcome
            check_view(outcome.film)
        except DataError as error:
            raise DataError(error.reason, f"film {place}", code=error.code) from None
        yield outcome.film


set_model(BundleModel())
