"""Check that a backbone was not trained on images that are to judge what is made of it."""

from __future__ import annotations

import numpy as np

from tasks.core.data.image_digests import SIZE, image_digests
from tasks.core.errors import UserError
from tasks.core.names import BACKBONE, SEEN, SPLIT, TEST, VALIDATION
from tasks.core.transfer_specs import BackboneCheckSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task


@stage_task(BackboneCheckSpec)
def backbone_check(_spec: BackboneCheckSpec, inputs: Inputs, _outputs: Outputs) -> Facts:
    """Compare this run's validation and test images with those that its backbone was trained on.

    Raises:
        UserError: the backbone was trained on such an image.
    """
    seen = inputs.arrays(BACKBONE, SEEN)["digests"].view(f"V{SIZE}").ravel()
    found = {}
    for split in (VALIDATION, TEST):
        images = inputs.by_rows(SPLIT, split)["images"]
        found[split] = int(np.isin(image_digests(images), seen).sum())
    if any(found.values()):
        counts = " and ".join(f"{count:,} {split}" for split, count in found.items() if count)
        raise UserError(
            f"transfer.backbone.name: the model was trained on {counts} images of this run, so "
            "scores on them would say nothing about new images. Use a model of the earlier run "
            "that was trained on training images only (final was also trained on validation "
            "images), or of a run with the same subset.* and evaluation.* settings."
        )
    return {"images": len(seen)}
