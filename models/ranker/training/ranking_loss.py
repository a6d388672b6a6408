"""The loss of a training step, shared by the processes that train together.

Every term is a sum over a worker's share of a batch, divided by the whole batch's count. So the workers'
losses, averaged times their number, are the loss of one process.

Shape legend: B lists of the share, N lists of the batch, C candidates, E width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.ranker.network.ranker_network import Ranker
from models.ranker.network.score_tower import RankerLogits, compute_order_logit
from models.ranker.training.list_batches import CatalogueTensors, ListBatch, represent_items, represent_lists

_MASKED_LOGIT = -1e4


class RankingObjective(nn.Module):
    """The loss as the forward pass of a module, which is what can be wrapped to average gradients.

    Its parts are added with equal weights. Lists that were shown are learned candidate by candidate: each was
    clicked or not for itself. Sampled lists hold one choice among others: they add a softmax over the list,
    and one over the clicks of the batch.
    """

    def __init__(self, network: Ranker, catalogue: CatalogueTensors, *, is_shown: bool) -> None:
        super().__init__()
        self.network, self.catalogue, self.is_shown = network, catalogue, is_shown

    def forward(self, batch: ListBatch, rows: Tensor) -> Tensor:
        """The loss of some rows [B] of a batch of N lists."""
        own_lists = batch.take_lists(rows)
        logits = self.network.compute_logits(represent_lists(self.network, self.catalogue, own_lists))
        placed_logits = self.network.add_position_bias(logits) if self.is_shown else logits
        loss = compute_pointwise_loss(placed_logits, own_lists, batch)
        if not self.is_shown:
            loss = loss + compute_listwise_loss(placed_logits.click, own_lists, batch)
        if logits.spend is not None:
            loss = loss + compute_value_loss(logits.spend, own_lists, batch, self.network.usual_order)
        if logits.user_BE is None or self.is_shown:
            return loss
        return loss + self._compute_contrast_loss(logits.user_BE, batch, rows)

    def _compute_contrast_loss(self, user_BE: Tensor, batch: ListBatch, rows: Tensor) -> Tensor:
        """Tells each user's clicked item from those of the whole batch: many negatives for one product.

        In-batch softmax, as in Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019. Its
        correction for popularity is left out: the protocol's negatives, too, are as popular as positives.
        """
        is_clicked_N = batch.clicks_BC.sum(1) > 0
        items_N = batch.candidates_BC.gather(1, batch.clicks_BC.argmax(1, keepdim=True)).squeeze(1)
        clicked_NE = represent_items(self.network, self.catalogue, items_N, batch.fold)
        logits_BN = user_BE @ clicked_NE.T * clicked_NE.shape[-1] ** -0.5
        is_other_BN = torch.arange(len(items_N), device=rows.device) != rows.unsqueeze(1)
        is_no_negative_BN = (items_N == items_N[rows].unsqueeze(1)) | ~is_clicked_N
        masked_BN = logits_BN.masked_fill(is_no_negative_BN & is_other_BN, _MASKED_LOGIT)
        losses_B = F.cross_entropy(masked_BN, rows, reduction="none") * is_clicked_N[rows]
        return losses_B.sum() / is_clicked_N.sum().clamp(min=1)


def compute_pointwise_loss(logits: RankerLogits, share: ListBatch, batch: ListBatch) -> Tensor:
    """Click and order cross-entropy per candidate.

    The order's probability is click x conversion, so both heads learn from every impression (ESMM,
    arXiv 1804.07931).
    """
    is_real_BC = share.mask_BC
    click_loss = F.binary_cross_entropy_with_logits(
        logits.click, share.clicks_BC, weight=is_real_BC, reduction="sum"
    )
    order_loss = F.binary_cross_entropy_with_logits(
        compute_order_logit(logits), share.orders_BC, weight=is_real_BC, reduction="sum"
    )
    return (click_loss + order_loss) / batch.mask_BC.sum()


def compute_listwise_loss(click_BC: Tensor, share: ListBatch, batch: ListBatch) -> Tensor:
    """Softmax cross-entropy of the clicks of each list."""
    masked_logits_BC = click_BC + (1 - share.mask_BC) * _MASKED_LOGIT
    log_likelihood_B = (F.log_softmax(masked_logits_BC, 1) * share.clicks_BC).sum(1)
    softmax_losses_B = -log_likelihood_B / share.clicks_BC.sum(1).clamp(min=1)
    num_clicked = (batch.clicks_BC.sum(1) > 0).sum().clamp(min=1)
    return softmax_losses_B.sum() / num_clicked


def compute_value_loss(spend_BC: Tensor, share: ListBatch, batch: ListBatch, usual_order: Tensor) -> Tensor:
    """Mean over the orders of s + y exp(-s), with y the revenue over the usual one and s the predicted log.

    It is the likelihood of exponentially distributed revenues. Its expectation is least where exp(s) is the
    mean of y, whatever the distribution (the deviance of the gamma family).
    """
    is_paid_BC = _find_paid_orders(share)
    losses_BC = (spend_BC + share.values_BC / usual_order * torch.exp(-spend_BC)) * is_paid_BC
    return losses_BC.sum() / _find_paid_orders(batch).sum().clamp(min=1)


def _find_paid_orders(batch: ListBatch) -> Tensor:
    return batch.orders_BC * (batch.values_BC > 0)
