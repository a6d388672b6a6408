"""What a student's confidence is worth: measured on items that it never learned from.

Confidence is the mean log-probability of an answer's tokens. It becomes the expected agreement with the
teacher by isotonic regression: a more confident answer is never expected to be a worse one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from contracts.artifacts import write_json
from contracts.errors import UserError

CALIBRATION_FILE: Final = "calibration.json"
_SEND_ALL: Final = float("inf")


class _CalibrationFile(BaseModel):
    """What must hold of a file, which may come from elsewhere."""

    model_config = ConfigDict(extra="forbid", strict=True)

    confidences: list[FiniteFloat]
    agreements: list[FiniteFloat]
    num_invalid: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _require_rising_pairs(self) -> Self:
        if len(self.confidences) != len(self.agreements):
            raise ValueError("confidences and agreements are not as many")
        # A threshold is read off their order.
        if self.confidences != sorted(self.confidences):
            raise ValueError("confidences are not in rising order")
        return self


class Calibration(NamedTuple):
    """Held-out answers by rising confidence."""

    confidences: list[float]
    """Of the valid answers."""
    agreements: list[float]
    """Expected agreement with the teacher at each of them, 0 to 1; never falling."""
    num_invalid: int
    """Further held-out answers that were not valid. A cascade always sends such items on."""

    @classmethod
    def fit(
        cls, confidences: Sequence[float], agreements: Sequence[float], *, num_invalid: int
    ) -> "Calibration":
        """Fits it to what was measured of each valid answer."""
        from sklearn.isotonic import IsotonicRegression

        if not confidences:
            return cls([], [], num_invalid)
        fitted = IsotonicRegression(y_min=0, y_max=1).fit_transform(confidences, agreements)
        order = np.argsort(confidences, kind="stable")
        return cls(np.array(confidences)[order].tolist(), fitted[order].tolist(), num_invalid)

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Reads a student's file.

        Raises:
            UserError: it is not there, or no calibration.
        """
        if not path.is_file():
            raise UserError(
                f"teacher.calibration: {path} not found. `distill_teacher` writes it beside the student's "
                "weights; for a served student give its path."
            )
        try:
            stored = _CalibrationFile.model_validate_json(path.read_bytes())
        except ValidationError as error:
            detail = error.errors()[0]
            place = ".".join(map(str, detail["loc"])) or "file"
            raise UserError(
                f"teacher.calibration: {path} is no calibration: {place}: {detail['msg']}. Give the "
                f"{CALIBRATION_FILE} that `distill_teacher` wrote."
            ) from error
        return cls(stored.confidences, stored.agreements, stored.num_invalid)

    def write(self, folder: Path) -> None:
        """Writes it into a student's folder."""
        write_json(folder / CALIBRATION_FILE, self._asdict())

    def find_threshold(self, *, share: float | None, min_agreement: float | None) -> float:
        """The confidence below which an item is sent on, where any held-out answer was valid.

        Args:
            share: Of the items that are sent on, those without a valid answer among them.
            min_agreement: Or the least expected agreement that is good enough.
        """
        if share is not None:
            num_items = len(self.confidences) + self.num_invalid
            num_sent = round(share * num_items) - self.num_invalid
            if num_sent <= 0:
                return -_SEND_ALL
            return self.confidences[num_sent] if num_sent < len(self.confidences) else _SEND_ALL
        if not min_agreement:
            # Any answer is good enough, also one of less confidence than the held-out items had.
            return -_SEND_ALL
        good_enough = [
            confidence
            for confidence, agreement in zip(self.confidences, self.agreements, strict=True)
            if agreement >= min_agreement
        ]
        return good_enough[0] if good_enough else _SEND_ALL
