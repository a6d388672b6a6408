"""The training loop: lists in, the weights of the best epoch out; killed anywhere, it goes on exactly there.

All randomness of a step derives from (seed, epoch, step, worker): a resumed run repeats the uninterrupted one exactly.
"""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.ranker.batches import Batch, CatalogueTensors, make_batch, plan_epoch, view
from models.ranker.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from models.ranker.config import RankerConfig
from models.ranker.metrics import list_metrics
from models.ranker.network import Logits, Ranker
from models.ranker.objective import Objective
from models.ranker.records import RankingRows
from models.workers import Worker

_WARMUP_STEPS = 50
_AVERAGE_DECAY = 0.995


class Trainer:
    """Trains one ranker.

    Args of the constructor: the network, the catalogue, training and validation lists, the config, the checkpoint
    folder, the name of the run (of its inputs and config), which of the processes that train together this one is, and
    the fold of each training list's user (none: no folds).
    """

    def __init__(
        self,
        network: Ranker,
        catalogue: CatalogueTensors,
        train: RankingRows,
        validation: RankingRows,
        config: RankerConfig,
        *,
        checkpoints: Path,
        run: str,
        worker: Worker,
        folds: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.network, self.catalogue = network.to(worker.device), catalogue.to(worker.device)
        self.train, self.validation, self.worker = train, validation, worker
        self.folds = np.zeros(len(train), np.int64) if folds is None else folds
        self.config, self.checkpoints, self.run = config, checkpoints, run
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.objective = worker.wrap(Objective(network, self.catalogue, config))
        self.progress = Progress()
        self.average = _copy(network)
        self.best = _copy(network)
        self.saved_at = time.monotonic()
        self.spent_s, self.samples = 0.0, 0

    def fit(self) -> Progress:
        """Trains to the end and leaves the best epoch's weights in the network."""
        self._resume()
        while not self.progress.finished:
            self._train_epoch()
            self._finish_epoch()
        self.network.load_state_dict(self.best)
        self.network.cpu()
        return self.progress

    @property
    def samples_per_s(self) -> float:
        """Candidates trained on per second of processor time, since this process began; 0 where it had none to do."""
        return self.samples / self.spent_s if self.spent_s else 0.0

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the training lists."""
        return int(np.ceil(np.bincount(self.folds) / self.config.batch_size).sum())

    @property
    def stretch(self) -> int:
        """How many times `max_epochs` and `patience` are stretched, so that a short log gets `min_steps` too."""
        return math.ceil(self.config.min_steps / (self.config.max_epochs * self.steps_per_epoch))

    def _train_epoch(self) -> None:
        self.network.train()
        rng = np.random.default_rng([self.config.seed, self.progress.epoch])
        batches = plan_epoch(self.folds, self.train.lengths, self.config.batch_size, rng)
        for step in range(self.progress.step, len(batches)):
            started = time.process_time()
            torch.manual_seed(self._draw(step))
            batch = make_batch(self.train, batches[step], int(self.folds[batches[step][0]]))
            self.train.release()
            self._step(batch.to(self.worker.device), self.progress.epoch * len(batches) + step)
            self.spent_s += time.process_time() - started
            self.samples += int(batch.mask_BC.sum())
            self.progress.step = step + 1
            if time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes:
                self._save()

    def _step(self, batch: Batch, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._schedule(step)
        self.optimizer.zero_grad(set_to_none=True)
        rows, counted = self.worker.share(len(batch.mask_BC))
        with self.worker.autocast():
            share: Tensor = self.objective(batch, torch.arange(len(batch.mask_BC), device=self.worker.device)[rows])
        torch.autograd.backward(share * self.worker.size * counted)
        self.progress.loss_sum += self.worker.sum(float(share.detach()) * counted)[0]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self._update_average(step)

    def _draw(self, step: int) -> int:
        """Seed of what is random in a step."""
        place = (self.config.seed, self.progress.epoch, step, self.worker.rank)
        return int(np.random.SeedSequence(place).generate_state(1)[0])

    def _update_average(self, step: int) -> None:
        """Moves the running average of the weights (Polyak averaging); it is what is validated and exported."""
        share = 1 - min(_AVERAGE_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, share)

    def _schedule(self, step: int) -> float:
        """Linear warm-up, then a cosine down to nothing at the last epoch's end."""
        total = self.stretch * self.config.max_epochs * self.steps_per_epoch
        return min(1.0, (step + 1) / _WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / total))

    def _finish_epoch(self) -> None:
        trained = _copy(self.network)
        self.network.load_state_dict(self.average)
        metric = self._validate()
        self.network.load_state_dict(trained)
        self.progress.losses.append(self.progress.loss_sum / self.steps_per_epoch)
        self.progress.epoch, self.progress.step, self.progress.loss_sum = self.progress.epoch + 1, 0, 0.0
        if metric > self.progress.best_metric:
            self.progress.best_metric, self.progress.best_epoch = metric, self.progress.epoch
            self.best = {name: value.clone() for name, value in self.average.items()}
        stale = self.progress.epoch - self.progress.best_epoch
        patience, most = self.stretch * self.config.patience, self.stretch * self.config.max_epochs
        self.progress.finished = stale >= patience or self.progress.epoch >= most
        self._save()

    def _validate(self) -> float:
        if not len(self.validation):
            return float(self.progress.epoch)
        chosen = spread(len(self.validation), self.config.max_validation_lists)
        rows, counted = self.worker.share(len(chosen))
        chosen = chosen[rows]
        scores, clicks, lengths = [], [], [0]
        for batch, logits in score_lists(self.network, self.catalogue, self.validation, chosen):
            real = batch.mask_BC > 0
            scores.append(logits.click[real].numpy())
            clicks.append(batch.clicks_BC[real].numpy() > 0)
            lengths.extend(real.sum(1).tolist())
        values = list_metrics(np.concatenate(scores), np.concatenate(clicks), np.cumsum(lengths)).ndcg
        total, count = self.worker.sum(float(np.nansum(values)) * counted, float(np.sum(~np.isnan(values))) * counted)
        return total / count if count else float(self.progress.epoch)

    def _save(self) -> None:
        self.saved_at = time.monotonic()
        if self.worker.rank:
            return
        moment = Checkpoint(
            self.progress,
            self.network.state_dict(),
            self.average,
            self.best,
            self.optimizer.state_dict(),
        )
        save_checkpoint(moment, self.checkpoints, run=self.run)

    def _resume(self) -> None:
        moment = load_checkpoint(self.checkpoints, run=self.run, device=self.worker.device)
        if moment is None:
            return
        self.network.load_state_dict(moment.network)
        self.optimizer.load_state_dict(moment.optimizer)
        self.progress, self.average, self.best = moment.progress, moment.average, moment.best


def score_lists(
    network: Ranker, catalogue: CatalogueTensors, rows: RankingRows, chosen: npt.NDArray[np.int64]
) -> Iterator[tuple[Batch, Logits]]:
    """Scores lists with the torch network, batch by batch, in the order of their histories' lengths."""
    network.eval()
    by_length = chosen[np.argsort(rows.lengths[chosen], kind="stable")]
    with torch.inference_mode():
        for start in range(0, len(chosen), 128):
            batch = make_batch(rows, by_length[start : start + 128])
            logits = network.score_views(view(network, catalogue, batch.to(catalogue.vectors.device)))
            spend = None if logits.spend is None else logits.spend.cpu()
            yield batch, Logits(logits.click.cpu(), logits.conversion.cpu(), spend, None)


def spread(total: int, count: int) -> npt.NDArray[np.int64]:
    """At most `count` of `total` rows, evenly spread."""
    return np.linspace(0, total - 1, min(total, count)).astype(np.int64)


def use_threads(num_threads: int) -> None:
    """Lets torch use so many CPU threads; 0: all that this process may use."""
    torch.set_num_threads(num_threads or len(os.sched_getaffinity(0)))


def _copy(network: Ranker) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
