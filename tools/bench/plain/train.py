"""A training as a SpeechBrain recipe has it, to compare with: pipelines over wav files, and a Brain.

The pieces are SpeechBrain's: `DynamicItemDataset`, `read_audio`, `CategoricalEncoder`, `PaddedBatch`
and the modules of its VoxCeleb recipe for x-vector and ECAPA-TDNN. Other networks are those of the
yaml, called as such a recipe would call them. Everything is done in every epoch, as there.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.dataio import read_audio
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.models import ECAPA_TDNN, Xvector
from speechbrain.nnet.losses import nll_loss
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bdlib.corpus import Batches
from bdlib.training.losses import AngularMarginLoss


class SpeakerBrain(sb.Brain):
    """As of the VoxCeleb recipe: features, normalisation, embedding, classifier, cost."""

    def compute_forward(self, batch: Any, stage: sb.Stage) -> Tensor:
        """Log-probabilities or cosines, (B, 1, C)."""
        batch = batch.to(self.device)
        wavs, lens = batch.sig
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        return self.modules.classifier(self.modules.embedding_model(feats, lens))

    def compute_objectives(self, outputs: Tensor, batch: Any, stage: sb.Stage) -> Tensor:
        """The mean cost."""
        labels, _ = batch.label_encoded
        return self.hparams.compute_cost(outputs, labels)


class KeywordBrain(sb.Brain):
    """Features of the network's own front end, the network, cross-entropy."""

    def compute_forward(self, batch: Any, stage: sb.Stage) -> Tensor:
        """Logits (B, C)."""
        batch = batch.to(self.device)
        wavs, lens = batch.sig
        return self.modules.model.logits(self.modules.compute_features(wavs, lens), lens)

    def compute_objectives(self, outputs: Tensor, batch: Any, stage: sb.Stage) -> Tensor:
        """The mean loss."""
        labels, _ = batch.label_encoded
        return nn.functional.cross_entropy(outputs, labels.squeeze(1))


def dataio_prep(csv: Path, root: Path, batch_size: int) -> DataLoader:
    """The training set, shuffled, without workers: one process has one core here."""
    data = DynamicItemDataset.from_csv(csv, replacements={"data_root": str(root)})
    encoder = CategoricalEncoder()
    encoder.ignore_len()

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio_pipeline(wav: str) -> Tensor:
        return read_audio(wav)

    @sb.utils.data_pipeline.takes("label")
    @sb.utils.data_pipeline.provides("label_encoded")
    def label_pipeline(label: str) -> Tensor:
        return encoder.encode_sequence_torch([label])

    data.add_dynamic_item(audio_pipeline)
    encoder.update_from_didataset(data, "label")
    data.add_dynamic_item(label_pipeline)
    data.set_output_keys(["id", "sig", "label_encoded"])
    return sb.dataio.dataloader.make_dataloader(
        data, batch_size=batch_size, shuffle=True, drop_last=True
    )


def brain(model: Mapping[str, Any], lr: float, train: Batches) -> sb.Brain:
    """Untrained, of the same layers as a yaml's classifier, whose encoder or network it takes.

    Arguments
    ---------
    model : Mapping[str, Any]
        Section `model` of a yaml, built, and not used for anything else.
    lr : float
        Of Adam.
    train : Batches
        For the statistics of a front end, and the number of classes.
    """
    optimizer = functools.partial(torch.optim.Adam, lr=lr)
    options = {"device": "cpu", "max_grad_norm": 5.0, "noprogressbar": True}
    classes, given = len(train.counts), model["classifier"].keywords
    if "encoder" not in given:
        net = model["classifier"](n_classes=classes)
        net.fit_front_end(train)
        modules = {"compute_features": net.front_end, "model": net}
        return KeywordBrain(modules, optimizer, run_opts=options)
    size = given["embedding_size"]
    if isinstance(model["loss"], AngularMarginLoss):
        head = ECAPA_TDNN.Classifier(size, lin_neurons=size, out_neurons=classes)
        cost = model["loss"].loss
    else:
        head = Xvector.Classifier((None, None, size), lin_neurons=size, out_neurons=classes)
        cost = nll_loss
    modules = {
        "compute_features": given["front_end"].fbank,
        "mean_var_norm": given["front_end"].normalize,
        "embedding_model": given["encoder"],
        "classifier": head,
    }
    return SpeakerBrain(modules, optimizer, {"compute_cost": cost}, options)
