"""Training: it learns, keeps the best, goes on after a stop, and comes back from an explosion."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.files import read_json
from bdlib.models.keyword import SmallResNet
from bdlib.models.wide_resnet import WideResNet
from bdlib.training import classifier_brain
from bdlib.training.classifier_brain import ClassifierBrain, Training, fit
from bdlib.training.jem_brain import SemiSup, ViewBrain
from bdlib.training.log import ROLLBACKS, read_log
from bdlib.training.schedule import Constant, OneCycle
from bdlib.training.sgld import SgldSettings

QUIET = {"device": "cpu", "noprogressbar": True}
cross_entropy = torch.nn.functional.cross_entropy
BASIC = Training(6, 6, torch.optim.Adam, 20, 0, 5.0, OneCycle(0.01), cross_entropy)


def training(**changes):
    return dataclasses.replace(BASIC, **changes)


class Dropping(SmallResNet):
    """Draws random numbers in training, as view models and dropout do."""

    def embed(self, features, lens):
        return torch.nn.functional.dropout(super().embed(features, lens), 0.2, self.training)


def small():
    torch.manual_seed(0)
    return Dropping(NormalizedFbank(16, 8000), 3, channels=(4, 8), blocks=1)


def loss_and_accuracy(net, batches):
    net.eval()
    with torch.no_grad():
        pairs = [(net(batch.wavs, batch.lens), batch.labels) for batch in batches]
    loss = sum(float(cross_entropy(*pair)) for pair in pairs) / len(pairs)
    right = sum(int((logits.argmax(1) == labels).sum()) for logits, labels in pairs)
    return loss, right / sum(len(labels) for _, labels in pairs)


def train(tones, folder, net=None, brain=ClassifierBrain, seed=0, valid=None, **changes):
    data = tones.train(seed), valid or tones.valid()
    return fit(net or small(), training(**changes), *data, folder, seed, QUIET, brain)


class Stops(RuntimeError):
    """A power cut."""


def breaking(base, epoch, step, **settings):
    """A brain that dies in the middle of an epoch."""

    class Breaking(base):
        def on_fit_batch_start(self, batch, should_step):
            if self.counter.current == epoch and self.step == step:
                raise Stops
            super().on_fit_batch_start(batch, should_step)

    return lambda *args, **kwargs: Breaking(*args, **kwargs, **settings)


def without_seconds(folder):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(folder)]


def equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def newest(folder):
    """All that the newest checkpoint holds: weights, optimiser, sampler."""
    checkpoint = max((folder / "save").iterdir(), key=lambda path: path.stat().st_mtime)
    files = sorted(checkpoint.glob("*.ckpt"))
    return {f.stem: torch.load(f, weights_only=True) for f in files if _is_tensors(f)}


def _is_tensors(path):
    return path.read_bytes()[:2] == b"PK"


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_learns_logs_and_fits_the_front_end(tones, tmp_path):
    net = train(tones, tmp_path, number_of_epochs=10)
    loss, accuracy = loss_and_accuracy(net, tones.valid())
    assert accuracy > 0.9 and not net.training
    assert loss_and_accuracy(small(), tones.valid())[1] < 0.7
    log = read_log(tmp_path)
    assert [line["epoch"] for line in log] == list(range(1, 11))
    best = min(log, key=lambda line: line["valid_loss"])
    assert math.isclose(best["valid_loss"], loss, abs_tol=1e-3)
    assert math.isclose(best["valid_accuracy"], accuracy, abs_tol=1e-5)
    expected = small().front_end
    expected.fit(tones.train())
    assert torch.equal(net.front_end.mean, expected.mean)  # and not that of the validation set
    steps = len(tones.train())
    for line in log:
        expected = OneCycle(0.01)(steps * line["epoch"] - 1, steps * 10)
        assert math.isclose(line["lr"], expected)


def test_a_schedule_runs_to_its_end_where_gradients_are_added_up(tones, tmp_path):
    """Of 6 batches an epoch, 3 steps of the optimiser."""
    options = QUIET | {"grad_accumulation_factor": 2}
    fit(small(), training(number_of_epochs=4), tones.train(), tones.valid(), tmp_path, 0, options)
    assert len(tones.train()) == 6
    for line in read_log(tmp_path):
        assert math.isclose(line["lr"], OneCycle(0.01)(3 * line["epoch"] - 1, 12))


def test_the_best_epoch_comes_back_and_not_the_last(tones, tmp_path):
    def ruins(step, total):
        return 0.01 if step < total / 2 else -0.1

    net = train(tones, tmp_path, schedule=ruins, number_of_epochs=10)
    losses = [line["valid_loss"] for line in read_log(tmp_path)]
    assert len(losses) == 10 and losses[-1] > 1.5 * min(losses)
    assert math.isclose(loss_and_accuracy(net, tones.valid())[0], min(losses), abs_tol=1e-3)
    fresh = classifier_brain.load(small(), tmp_path)
    assert equal(net, fresh)


def test_the_last_epoch_comes_back_where_it_is_kept(tones, tmp_path):
    """Though the best one is on the disk, as where a run is killed before it is deleted."""

    def ruins(step, total):
        return 0.01 if step < total / 2 else -0.1

    with pytest.raises(Stops):
        train(
            tones,
            tmp_path,
            schedule=ruins,
            number_of_epochs=10,
            brain=breaking(ClassifierBrain, 10, 1),
        )
    assert len(list((tmp_path / "save").iterdir())) == 2
    ruined = classifier_brain.load(small(), tmp_path, "last")
    assert not equal(ruined, classifier_brain.load(small(), tmp_path))
    net = train(tones, tmp_path, schedule=ruins, number_of_epochs=9, keep="last")
    assert equal(net, ruined)
    net = train(tones, tmp_path, schedule=ruins, number_of_epochs=10, keep="last")
    losses = [line["valid_loss"] for line in read_log(tmp_path)]
    assert len(losses) == 10 and losses[-1] > 1.5 * min(losses)
    assert math.isclose(loss_and_accuracy(net, tones.valid())[0], losses[-1], abs_tol=1e-3)
    assert len(list((tmp_path / "save").iterdir())) == 1
    assert equal(net, classifier_brain.load(small(), tmp_path, "last"))


def test_the_last_epoch_knows_no_patience(tones, tmp_path):
    still = {"schedule": Constant(0.0), "number_of_epochs": 8, "patience": 1}
    train(tones, tmp_path / "best", **still)
    train(tones, tmp_path / "last", **still, keep="last")
    assert len(read_log(tmp_path / "best")) < len(read_log(tmp_path / "last")) == 8


def test_an_unknown_epoch_is_not_kept():
    with pytest.raises(InputError, match="`keep` is first: give best or last"):
        training(keep="first")


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize(("epoch", "step"), [(3, 3), (1, 2), (5, 1)])
def test_interrupted_training_ends_bit_equal(tones, tmp_path, epoch, step, keep):
    whole = train(tones, tmp_path / "whole", keep=keep)
    with pytest.raises(Stops):
        train(tones, tmp_path / "cut", brain=breaking(ClassifierBrain, epoch, step), keep=keep)
    assert len(read_log(tmp_path / "cut")) == epoch - 1
    torch.manual_seed(99)  # another process has another stream
    torch.randn(7)
    resumed = train(tones, tmp_path / "cut", keep=keep)
    assert without_seconds(tmp_path / "cut") == without_seconds(tmp_path / "whole")
    assert min(read_log(tmp_path / "whole"), key=lambda e: e["valid_loss"])["epoch"] > 3
    assert equal(whole, resumed)
    assert same(newest(tmp_path / "cut"), newest(tmp_path / "whole"))
    assert {"classifier", "optimizer"} <= set(newest(tmp_path / "cut"))


def test_other_seeds_train_otherwise(tones, tmp_path):
    assert not equal(train(tones, tmp_path / "0"), train(tones, tmp_path / "1", seed=1))


def test_every_epoch_has_an_order_of_its_own(tones, tmp_path):
    seen = {}

    class Notes(ClassifierBrain):
        def on_fit_batch_start(self, batch, should_step):
            super().on_fit_batch_start(batch, should_step)
            seen.setdefault(self.counter.current, []).extend(batch.ids)

    train(tones, tmp_path, brain=Notes, number_of_epochs=3)
    assert len({tuple(ids) for ids in seen.values()}) == 3
    assert all(sorted(ids) == sorted(seen[1]) and len(set(ids)) == 36 for ids in seen.values())


def test_a_finished_training_is_not_continued(tones, tmp_path):
    done = train(tones, tmp_path, number_of_epochs=2)
    log = (tmp_path / "train_log.txt").read_bytes()
    again = train(tones, tmp_path, number_of_epochs=2, brain=breaking(ClassifierBrain, 2, 0))
    assert equal(done, again) and (tmp_path / "train_log.txt").read_bytes() == log


def test_stops_after_patience_not_counting_the_warmup(tones, tmp_path):
    still = {"schedule": Constant(0.0), "number_of_epochs": 12}
    train(tones, tmp_path / "a", patience=2, warmup_epochs=3, **still)
    epochs = len(read_log(tmp_path / "a"))
    assert 5 <= epochs < 12
    train(tones, tmp_path / "b", patience=4, warmup_epochs=3, **still)
    train(tones, tmp_path / "c", patience=2, warmup_epochs=5, **still)
    assert len(read_log(tmp_path / "b")) == len(read_log(tmp_path / "c")) == epochs + 2
    train(tones, tmp_path / "a", patience=2, warmup_epochs=3, **still)
    assert len(read_log(tmp_path / "a")) == epochs  # stopped stays stopped


def test_patience_survives_an_interruption(tones, tmp_path):
    still = {"schedule": Constant(0.0), "number_of_epochs": 12, "patience": 3}
    train(tones, tmp_path / "whole", **still)
    epochs = len(read_log(tmp_path / "whole"))
    assert epochs < 12
    with pytest.raises(Stops):
        train(tones, tmp_path / "cut", brain=breaking(ClassifierBrain, epochs, 2), **still)
    train(tones, tmp_path / "cut", **still)
    assert without_seconds(tmp_path / "cut") == without_seconds(tmp_path / "whole")


def test_no_epoch_is_an_error(tones, tmp_path):
    with pytest.raises(InputError, match="`number_of_epochs` is 0: give at least 1"):
        train(tones, tmp_path, number_of_epochs=0)


def always_nan(logits, labels):
    return logits.sum() * torch.nan


@pytest.mark.parametrize("brain", [ClassifierBrain, ViewBrain])
def test_a_training_that_always_diverges_gives_up_after_three_rollbacks(tones, tmp_path, brain):
    with pytest.raises(InputError, match=r"diverged 4 times.*`lr`") as caught:
        net = wide() if brain is ViewBrain else small()
        train(tones, tmp_path, net=net, brain=brain, loss=always_nan)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    rollbacks = read_json(tmp_path / ROLLBACKS)
    assert len(rollbacks) == 3 and all(line.startswith("epoch 1: ") for line in rollbacks)


def test_an_early_explosion_starts_again_with_half_the_step(tones, tmp_path):
    """Rates from 0.02 on explode: two halvings of 0.05 help, and nothing of the ruins is left."""
    net, rates, begins = small(), [], []

    class Sensitive(ClassifierBrain):
        def on_fit_batch_start(self, batch, should_step):
            super().on_fit_batch_start(batch, should_step)
            if self.counter.current == 1 and self.step == 1:
                begins.append({k: v.clone() for k, v in self.classifier.state_dict().items()})
                rates.append(self.rate)
            if self.rate > 0.02:
                with torch.no_grad():
                    self.classifier.head.weight.fill_(torch.nan)

    trained = train(tones, tmp_path, net=net, brain=Sensitive, schedule=Constant(0.05))
    assert rates == [0.05, 0.025, 0.0125]
    assert same(begins[0], begins[1]) and same(begins[0], begins[2])
    assert len(read_json(tmp_path / ROLLBACKS)) == 2
    assert all(line["lr"] == 0.0125 for line in read_log(tmp_path))
    assert loss_and_accuracy(trained, tones.valid())[1] > 0.9


def test_a_late_explosion_goes_back_to_the_newest_checkpoint(tones, tmp_path):
    """And a run started again remembers how often it went back."""
    seen = []

    class Once(ClassifierBrain):
        def on_fit_batch_start(self, batch, should_step):
            super().on_fit_batch_start(batch, should_step)
            seen.append((self.counter.current, self.rate))
            if self.counter.current == 4 and self.caution == 1:
                with torch.no_grad():
                    self.classifier.head.weight.fill_(torch.nan)

    net = train(tones, tmp_path, brain=Once, schedule=Constant(0.01))
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    order = [epoch for epoch, _ in seen]
    assert order == sorted(order) and set(order) == set(range(1, 7))
    assert {rate for epoch, rate in seen if epoch < 4} == {0.01}
    assert {rate for epoch, rate in seen if epoch > 4} == {0.005}
    assert [line["lr"] for line in read_log(tmp_path)] == [0.01] * 3 + [0.005] * 3
    assert len(read_json(tmp_path / ROLLBACKS)) == 1
    train(tones, tmp_path, schedule=Constant(0.01), number_of_epochs=8)
    assert read_log(tmp_path)[-1]["lr"] == 0.005


def test_a_validation_loss_that_is_no_number_is_an_explosion(tones, tmp_path):
    def loss(logits, labels):
        return cross_entropy(logits, labels) * (1 if logits.requires_grad else torch.nan)

    with pytest.raises(InputError, match="validation loss is nan after epoch 1"):
        train(tones, tmp_path, loss=loss)
    assert read_log(tmp_path) == []


def wide():
    torch.manual_seed(0)
    return WideResNet(NormalizedFbank(8, 8000), 3, depth=10, width=1)


SGLD = SgldSettings(samples=3, steps=2, more_steps=1, buffer=6, class_buffer=4)


@pytest.mark.parametrize("semi", [None, SemiSup()])
@pytest.mark.parametrize("sgld", [None, SGLD])
def test_view_training_goes_on_bit_equal(tones, tmp_path, sgld, semi):
    """Random views, sample buffers and the tuner of the sampler are all as they were."""
    settings = {"sgld": sgld, "semi": semi}
    made = {"number_of_epochs": 4, "schedule": OneCycle(0.002)}
    whole = train(
        tones, tmp_path / "whole", wide(), lambda *a, **k: ViewBrain(*a, **k, **settings), **made
    )
    with pytest.raises(Stops):
        train(tones, tmp_path / "cut", wide(), breaking(ViewBrain, 3, 3, **settings), **made)
    torch.manual_seed(99)
    resumed = train(
        tones, tmp_path / "cut", wide(), lambda *a, **k: ViewBrain(*a, **k, **settings), **made
    )
    assert without_seconds(tmp_path / "cut") == without_seconds(tmp_path / "whole")
    assert equal(whole, resumed)
    one, other = newest(tmp_path / "cut"), newest(tmp_path / "whole")
    assert same(one, other)
    if sgld:
        assert {"free", "classes", "tuners.free.sums"} <= set(one["sampler"])
        assert int(one["sampler"]["tuners.classes.calls"]) > 0


@pytest.mark.parametrize(("unconditional", "folder"), [(0.1, "samples"), (1.0, "free_samples")])
def test_what_is_kept_of_the_samples_was_sampled(tones, tmp_path, unconditional, folder):
    """Where no class is ever asked for, as in plain JEM, samples of none: those of classes are the noise they began as."""
    sgld = dataclasses.replace(SGLD, unconditional=unconditional)
    train(
        tones, tmp_path, wide(), lambda *a, **k: ViewBrain(*a, **k, sgld=sgld), number_of_epochs=2
    )
    first, last = (np.load(tmp_path / folder / f"{epoch:03}.npy") for epoch in (1, 2))
    assert [path.name for path in tmp_path.glob("*samples")] == [folder]
    assert first.shape == last.shape and not np.array_equal(first, last)


def test_a_divergence_halves_the_langevin_step(tones, tmp_path):
    steps = []

    class Once(ViewBrain):
        def on_fit_batch_start(self, batch, should_step):
            super().on_fit_batch_start(batch, should_step)
            steps.append(
                [self.sampler.tuners[kind].propose()[0][0] for kind in self.sampler.tuners]
            )
            if self.counter.current == 2 and self.caution == 1:
                with torch.no_grad():
                    self.classifier.head.weight.fill_(torch.nan)

    fixed = dataclasses.replace(SGLD, adaptive=False, step_size=0.2)
    train(tones, tmp_path, wide(), lambda *a, **k: Once(*a, **k, sgld=fixed), number_of_epochs=2)
    count = len(tones.train())
    assert steps[: count + 1] == [[0.2, 0.2]] * (count + 1)
    assert steps[count + 1 :] == [[0.1, 0.1]] * count


def test_noise_on_views_is_added_in_training_only(tones, tmp_path):
    seen = {}

    def brain(noise):
        class Notes(ViewBrain):
            def _one_view(self, net, views):
                if len(views) == 9:  # six real ones and three samples
                    seen.setdefault(noise, views.detach().clone())
                return super()._one_view(net, views)

        return lambda *args, **kwargs: Notes(*args, **kwargs, sgld=SGLD, input_noise=noise)

    logs = []
    for noise in (0.0, 0.5):
        train(tones, tmp_path / str(noise), wide(), brain(noise), number_of_epochs=1)
        logs += read_log(tmp_path / str(noise))
    assert 0.4 < (seen[0.5][:6].std() ** 2 - seen[0.0][:6].std() ** 2) ** 0.5 < 0.6
    assert logs[0]["train_loss"] != logs[1]["train_loss"]
