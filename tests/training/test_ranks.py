"""Two processes train as one does on batches twice as large."""

import functools
import multiprocessing
import os
import traceback
from dataclasses import replace

import numpy as np
import pytest
import torch
from speechbrain.lobes.models.Xvector import Xvector
from torch import nn

from bdlib.errors import InputError
from bdlib.features import NormalizedFbank, SpeakerFbank
from bdlib.models.speaker import MaskedStatisticsPooling, XVectorClassifier
from bdlib.models.wide_resnet import WideResNet
from bdlib.training import ranks
from bdlib.training.classifier_brain import ClassifierBrain, Training, fit
from bdlib.training.jem_brain import SemiSup, ViewBrain, plain_generative_loss
from bdlib.training.log import read_log
from bdlib.training.schedule import Constant
from bdlib.training.sgld import SgldSettings

SGLD = SgldSettings(samples=4, steps=3, more_steps=0, buffer=8, class_buffer=4)
SEMI = SemiSup(first=0.2, step=0.1)
JEM = functools.partial(
    ViewBrain,
    sgld=replace(SGLD, momentum=0.0, adaptive=False, unconditional=1.0, uniform_start=True),
    generative=plain_generative_loss,
    input_noise=0.03,
)
EPOCHS = 2
WHOLE = 0.61  # seconds of a clip of one view, so that MVD draws nothing


class Stops(Exception):
    """The end of a process."""


def views():
    torch.manual_seed(0)
    return WideResNet(NormalizedFbank(8, 8000), 3, depth=10, width=1)


def xvector():
    torch.manual_seed(0)
    sizes = [16, 16, 16, 16, 24]
    encoder = Xvector("cpu", nn.LeakyReLU, 5, sizes, [5, 3, 3, 1, 1], [1, 2, 3, 1, 1], 16, 16)
    return XVectorClassifier(SpeakerFbank(16, 8000), encoder, 3, 16)


KINDS = {
    "x-vector": (xvector, ClassifierBrain),
    "mvd": (views, ViewBrain),
    "mvd_semisup": (views, functools.partial(ViewBrain, semi=SEMI)),
    "mvj": (views, functools.partial(ViewBrain, sgld=SGLD)),
    "mvj_semisup": (views, functools.partial(ViewBrain, sgld=SGLD, semi=SEMI)),
    "jem": (views, JEM),
}


def train(tones, kind, folder, rank=0, count=1, stop=None):
    """Some epochs of a kind, by plain descent (Adam makes much of rounding), as process `rank` of `count`; `stop` is the epoch in which it breaks."""
    make, brain = KINDS[kind]
    if stop is not None:
        brain = breaking(brain, stop)
    training = Training(
        EPOCHS, 12 // count, torch.optim.SGD, 9, 0, 5.0, Constant(0.02), nn.functional.cross_entropy,
        keep="last",
    )  # fmt: skip
    batches = tones.train(0, WHOLE, 12 // count, (rank, count))
    options = {"device": "cpu", "noprogressbar": True, "distributed_backend": "gloo"}
    options["distributed_launch"] = count > 1
    net = fit(make(), training, batches, tones.valid(WHOLE), folder, 0, options, brain)
    return net


def breaking(brain, stop):
    """A brain that ends in an epoch, as if it were killed."""

    def made(*args, **kwargs):
        trainer = brain(*args, **kwargs)
        start = trainer.on_stage_start

        def on_stage_start(stage, epoch=None):
            if epoch == stop:
                raise Stops
            start(stage, epoch)

        trainer.on_stage_start = on_stage_start
        return trainer

    return made


def process(rank, folder, work, said):
    """One of two, forked: joins the other, works, and says what it found."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}", rank=rank, world_size=2
    )
    try:
        said.put((rank, work(rank)))
    except BaseException:
        said.put((rank, traceback.format_exc()))
        os._exit(1)


def together(folder, work):
    """What each of two processes gives back."""
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()
    both = [context.Process(target=process, args=(n, folder, work, said)) for n in (0, 1)]
    for one in both:
        one.start()
    answers = {}
    for _ in both:
        rank, answers[rank] = said.get()
        if isinstance(answers[rank], str):  # the other waits for it
            both[1 - rank].kill()
            pytest.fail(answers[rank])
    for one in both:
        one.join()
    return answers[0], answers[1]


def losses(folder):
    lines = read_log(folder)
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
    return np.array([[line["train_loss"], line["valid_loss"]] for line in lines])


@pytest.mark.parametrize("kind", ["x-vector", "mvd", "mvd_semisup"])
def test_two_processes_have_the_losses_of_one(tones, tmp_path, kind, monkeypatch):
    """Of the same batches: front end, batch normalisation and gradients are of both together.

    But for the noise that an x-vector adds to its statistics, and each process its own.
    """
    monkeypatch.setattr(MaskedStatisticsPooling, "_get_gauss_noise", lambda self, shape, device: 0)
    net = train(tones, kind, tmp_path / "one")

    def work(rank):
        made = train(tones, kind, tmp_path / "two", rank, 2)
        return {name: value.numpy() for name, value in made.state_dict().items()}

    first, second = together(tmp_path / "meeting", work)
    gap = losses(tmp_path / "one") - losses(tmp_path / "two")
    assert np.abs(gap).max() < 1e-3, gap  # later what rounding began is large
    assert all(np.array_equal(first[name], second[name]) for name in first)
    for name, value in net.state_dict().items():
        if name.startswith("front_end"):
            assert np.allclose(value.numpy(), first[name], atol=1e-5), name


@pytest.mark.parametrize(
    "kind, buffer, expected",
    [("mvj", "classes", np.log(1.6)), ("mvj_semisup", "classes", np.log(1.6)), ("jem", "free", 0)],
)
def test_two_processes_that_sample(tones, tmp_path, kind, buffer, expected):
    """Each draws samples of its own, keeps them in the one checkpoint, and goes on.

    The partition function of MVJ is a sum over 6 clips and 4 samples in each of two, and over 12 and
    4 in one, so that its loss there is higher by log 1.6. Between seeds of one process training
    losses deviate by 0.001 (MVJ) and 0.004 (JEM), validation losses by less than 0.0003.
    """

    def work(rank, place="two", stop=None):
        try:
            train(tones, kind, tmp_path / place, rank, 2, stop)
        except Stops:
            return None
        (newest,) = (tmp_path / place / "save").glob("CKPT*")
        state = torch.load(newest / ("sampler.rank1" if rank else "sampler.ckpt"))
        return {name: value.numpy() for name, value in state.items()}

    train(tones, kind, tmp_path / "one")
    first, second = together(tmp_path / "meeting", work)
    gap = losses(tmp_path / "one") - losses(tmp_path / "two")
    assert np.abs(gap[:, 0] - expected).max() < 0.03 and np.abs(gap[:, 1]).max() < 0.01, gap
    assert not np.array_equal(first[buffer], second[buffer])

    def stopped(rank):
        work(rank, "cut", 2)
        return work(rank, "cut")

    resumed = together(tmp_path / "again", stopped)
    assert all(np.array_equal(first[name], resumed[0][name]) for name in first)
    assert all(np.array_equal(second[name], resumed[1][name]) for name in second)
    assert (losses(tmp_path / "cut") == losses(tmp_path / "two")).all()


def test_a_checkpoint_of_one_process_is_refused_by_the_second(tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "size", lambda: 2)
    path = tmp_path / "save" / "CKPT" / "sampler.ckpt"
    path.parent.mkdir(parents=True)
    ranks.save_own(nn.Linear(2, 2), path)
    ranks.load_own(nn.Linear(2, 2), path, True)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    with pytest.raises(InputError, match="is of 1 processes, not 2"):
        ranks.load_own(nn.Linear(2, 2), path, True)
