"""The loss of a training step, shared by the processes that train together.

Every term is a sum over a worker's share of a batch, divided by the whole batch's count, so that the workers' losses,
averaged times their number, are the loss of one process.

Shape legend: B lists of the share, N lists of the batch, C candidates, E width.
"""

# ruff: noqa: N803, N806 (shape suffixes)
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.ranker.batches import Batch, CatalogueTensors, represent, view
from models.ranker.config import RankerConfig
from models.ranker.network import Logits, Ranker, order_logit

_MASKED = -1e4


class Objective(nn.Module):
    """The loss as the forward pass of a module, which is what can be wrapped to average gradients."""

    def __init__(self, network: Ranker, catalogue: CatalogueTensors, config: RankerConfig) -> None:
        super().__init__()
        self.network, self.catalogue, self.config = network, catalogue, config

    def forward(self, batch: Batch, rows: Tensor) -> Tensor:
        """The loss of some rows [B] of a batch of N lists."""
        share = batch.take(rows)
        views = view(self.network, self.catalogue, share)
        logits = self.network.score_views(views)
        total = loss(self.network.with_position(logits), share, batch, softmax_weight=self.config.softmax_weight)
        if logits.spend is not None:
            total = total + value_loss(logits.spend, share, batch, self.network.usual_order)
        if logits.user_BE is None:
            return total
        return total + self.config.contrast_weight * self._contrast(logits.user_BE, batch, rows)

    def _contrast(self, user_BE: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        """Each user against the clicked items of the whole batch: hundreds of negatives for the price of one product.

        Negatives of other lists have the positives' own popularity, as the protocol's do. (In-batch softmax, as in Yi
        et al., "Sampling-bias-corrected neural modeling", RecSys 2019, without its correction for popularity.)
        """
        is_clicked_N = batch.clicks_BC.sum(1) > 0
        items_N = batch.candidates_BC.gather(1, batch.clicks_BC.argmax(1, keepdim=True)).squeeze(1)
        clicked_NE = represent(self.network, self.catalogue, items_N, batch.fold)
        logits_BN = user_BE @ clicked_NE.T * clicked_NE.shape[-1] ** -0.5
        is_other_BN = torch.arange(len(items_N), device=rows.device) != rows.unsqueeze(1)
        is_no_negative_BN = (items_N == items_N[rows].unsqueeze(1)) | ~is_clicked_N
        masked_BN = logits_BN.masked_fill(is_no_negative_BN & is_other_BN, _MASKED)
        found_B = F.cross_entropy(masked_BN, rows, reduction="none") * is_clicked_N[rows]
        return found_B.sum() / is_clicked_N.sum().clamp(min=1)


def loss(logits: Logits, share: Batch, batch: Batch, *, softmax_weight: float) -> Tensor:
    """Click and order cross-entropy per candidate, plus a listwise softmax over the clicks.

    The order's probability is click x conversion, so both heads learn from every impression (ESMM, arXiv 1804.07931).
    """
    real = share.mask_BC
    click = F.binary_cross_entropy_with_logits(logits.click, share.clicks_BC, weight=real, reduction="sum")
    order = F.binary_cross_entropy_with_logits(order_logit(logits), share.orders_BC, weight=real, reduction="sum")
    masked = logits.click + (1 - real) * _MASKED
    listwise = -(F.log_softmax(masked, 1) * share.clicks_BC).sum(1) / share.clicks_BC.sum(1).clamp(min=1)
    num_clicked = (batch.clicks_BC.sum(1) > 0).sum().clamp(min=1)
    return (click + order) / batch.mask_BC.sum() + softmax_weight * listwise.sum() / num_clicked


def value_loss(spend_BC: Tensor, share: Batch, batch: Batch, usual: Tensor) -> Tensor:
    """Negative log-likelihood of the orders' revenues, were they exponentially distributed; the mean over the orders.

    With y the revenue over the usual one and s the logarithm of its mean: s + y exp(-s), whose expectation is least
    where exp(s) is the mean of y, whatever its distribution (the deviance of the gamma family).
    """
    is_paid = _is_paid(share)
    found = (spend_BC + share.values_BC / usual * torch.exp(-spend_BC)) * is_paid
    return found.sum() / _is_paid(batch).sum().clamp(min=1)


def _is_paid(batch: Batch) -> Tensor:
    return batch.orders_BC * (batch.values_BC > 0)
