"""What a request says besides its candidates: the hour and weekday, the scene, what the page is about.

Shape legend: B batch, C candidates, E width, S aspects, F features.
"""

import torch
from torch import Tensor, nn

from models.ranker.inputs.item_encoder import NUM_SCENES

_HOURS, _WEEKDAYS = 24, 7


class RequestMoment(nn.Module):
    """What the hour and the weekday of a request say of items: one vector, multiplied into each candidate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hours, self.weekdays = nn.Embedding(_HOURS, width), nn.Embedding(_WEEKDAYS, width)
        for table in (self.hours, self.weekdays):
            nn.init.zeros_(table.weight)

    def forward(self, candidates_BCE: Tensor, hours_B1: Tensor, weekdays_B1: Tensor) -> Tensor:
        """[B, C, E]"""
        moment_B1E = self.hours(hours_B1) + self.weekdays(weekdays_B1)
        in_context_BCE: Tensor = candidates_BCE * moment_B1E
        return in_context_BCE


class PageContext(nn.Module):
    """What the page says of itself: its scene, and how like each candidate is to what it is about."""

    scene_codes_F: Tensor

    def __init__(self, width: int, *, num_aspects: int) -> None:
        super().__init__()
        self.scenes = nn.Embedding(NUM_SCENES, width)
        nn.init.zeros_(self.scenes.weight)
        self.register_buffer("scene_codes_F", torch.arange(NUM_SCENES), persistent=False)
        self.width = 2 * num_aspects + NUM_SCENES

    def forward(
        self, candidates_BCE: Tensor, scene_B1: Tensor, similarity_BSC: Tensor | None, mask_BC: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Candidates in the light of the scene [B, C, E], and readings [B, F, C].

        Args:
            candidates_BCE: the candidates.
            scene_B1: codes of the scenes.
            similarity_BSC: cosines of each aspect to what the page is about; None without vectors.
            mask_BC: 1 where there is a candidate, else 0.
        """
        in_scene_BCE = candidates_BCE * self.scenes(scene_B1)
        is_scene_BF1 = (scene_B1 == self.scene_codes_F).unsqueeze(-1)
        readings = [is_scene_BF1.to(mask_BC.dtype) * mask_BC.unsqueeze(1)]
        if similarity_BSC is not None:
            real_BSC = similarity_BSC * mask_BC.unsqueeze(1)
            # Against the list's best: a vague query is near to nothing, and still nearer to some.
            readings += [real_BSC, real_BSC - real_BSC.amax(2, keepdim=True)]
        return in_scene_BCE, torch.cat(readings, 1)
