"""Everything that runs on a GPU, on one that is not there: devices never mix, and the CPU rarely waits."""

import functools

import numpy as np
import pandas as pd
import pytest
import speechbrain as sb
import torch

from bdlib.attacks.flowmur import FlowMur
from bdlib.attacks.opportunistic import Opportunistic
from bdlib.attacks.surrogate import sureness
from bdlib.corpus import Batches
from bdlib.defenses.base import BlindView, CleanData, FilterDefense, InferenceDefense, RepairDefense
from bdlib.defenses.filters.vae_pls import encoder
from bdlib.defenses.inference.transcoding import Transcoding
from bdlib.defenses.inference.vad_trim import VadTrim
from bdlib.evaluation import neurons
from bdlib.features import NormalizedFbank
from bdlib.files import COMMON
from bdlib.models.keyword import SmallResNet
from bdlib.models.wide_resnet import WideResNet
from bdlib.pack import Pack
from bdlib.stages.document import Document, common
from bdlib.stages.fitting import TRAIN_KEYS
from bdlib.training.classifier_brain import ClassifierBrain, Training
from bdlib.training.sgld import Sampler, SgldSettings

DEVICE, RATE, CLASSES = "cuda:0", 16000, tuple("abcdef")
RECIPES = COMMON.parent
SMALL = RECIPES / "SpeechCommands" / "hparams"
WAITS = {  # of the CPU for a value of the device, at most
    "a batch gathered from the pack": 0,
    "a step of any training": 1,  # for its loss
    "a batch of validation": 1,
    "the samples of a step, all Langevin steps of them": 0,
    "a step of a repair": 0,
    "a batch behind a guard": 1,  # where torch looks at the window of an inverse transform
    "a sound learned or chosen": 3,  # one in all, or one a recording
    "the overlays of a batch of clips": 0,
    "the profiles of a batch of clips": 4,  # two inverse transforms, and labels for two models on the CPU
}


RECURRENT = {"attention_lstm", "rnn", "smalllstm"}  # whose frames are looked at one by one


def models():
    """A yaml of every model: where there is a small form, which has the same layers, that one."""
    found = {}
    for path in sorted(RECIPES.glob("*/hparams/*.yaml"), key=lambda p: "_small" not in p.stem):
        found.setdefault(path.stem.replace("_small", ""), path)
    return list(found.values())


def pack(count=192):
    """A second of noise a clip."""
    samples = np.random.Generator(np.random.PCG64(0)).integers(-999, 999, count * RATE, np.int16)
    return Pack(
        samples, np.arange(count + 1) * RATE, [f"u{n}" for n in range(count)], RATE, [], "d"
    )


@pytest.fixture
def clips(cuda):
    """A function: batches on the device, for training if a seed is given."""
    held = pack()
    rows = pd.DataFrame({"ID": held.ids, "duration": 1.0, "label": [*CLASSES] * 32})

    def batches(size=64, seed=None, some=rows, seconds=1.0):
        return Batches(held, some, CLASSES, size, seconds, seed, DEVICE)

    batches.pack, batches.rows = held, rows
    return batches


def trainer(built, train, folder):
    """A Brain of a yaml's objects, as `bdlib.stages.fitting` and `classifier_brain.fit` make it."""
    model, settings = built["model"], built["train"]
    schedule, loss = model["schedule"](settings["lr"]), model["loss"]
    keys = {name: settings[name] for name in TRAIN_KEYS}
    training = Training(schedule=schedule, loss=loss, **keys)
    net = model["classifier"](n_classes=len(CLASSES))
    net.to(train.device).fit_front_end(train)
    options = {
        "device": DEVICE,
        "precision": "bf16",
        "eval_precision": "bf16",
        "noprogressbar": True,
    }
    brain = model.get("brain", ClassifierBrain)
    return started(brain(net, training, train, folder, 0, options))


def started(brain):
    """Ready for a step."""
    brain.on_fit_start()
    brain.counter.current = 1
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    brain.modules.train()
    return brain


def fitted(network, how, drawn, watched, place, seed, options, brain):
    """As `classifier_brain.fit`, a step long and without a checkpoint, which fake tensors refuse."""
    network.to(DEVICE).fit_front_end(drawn)
    started(brain(network, how, drawn, place, seed, options)).fit_batch(next(iter(drawn)))
    return network.eval()


def waiting(cuda, what, work):
    """What a work makes, if the CPU waits for the device in it as often as `WAITS` says."""
    before = len(cuda.waits)
    made = work()
    assert len(cuda.waits) - before <= WAITS[what], f"{what}: {cuda.waits[before:]}"
    return made


@pytest.mark.parametrize("path", models(), ids=lambda p: p.stem)
def test_a_step_of_every_yaml(cuda, clips, tmp_path, path):
    """Statistics of the front end, a step, a batch of validation, in bf16 with fused Adam."""
    document = Document(path)
    if "langevin_steps" in document.plain()["model"]:
        document.place("langevin_steps", 1)
        document.place("more_steps", 0)
    some = clips.rows[:16]
    train = clips(8, 0, some, seconds=0.3 if path.stem in RECURRENT else 1.0)
    brain = trainer(document.build(), train, tmp_path)
    batch = waiting(cuda, "a batch gathered from the pack", lambda: next(iter(brain.train)))
    assert {x.device.type for x in (batch.wavs, batch.lens, batch.labels)} == {"cuda"}
    assert {p.device.type for p in brain.classifier.parameters()} == {"cuda"}
    waiting(cuda, "a step of any training", lambda: brain.fit_batch(batch))
    brain.on_stage_start(sb.Stage.VALID, 1)
    brain.modules.eval()
    seen = set()
    brain.classifier.head.register_forward_pre_hook(
        lambda head, inputs: seen.add((inputs[0].dtype, torch.is_autocast_enabled("cuda")))
    )
    with torch.no_grad():
        waiting(cuda, "a batch of validation", lambda: brain.evaluate_batch(batch, sb.Stage.VALID))
    assert seen == {(torch.float32, False)}, "logits in bf16"


def test_the_second_phase_of_abl(cuda, clips, tmp_path):
    settings = Document(SMALL / "smallcnn_abl.yaml").build()
    brain = trainer(settings, clips(8, 0, clips.rows[:16]), tmp_path)
    batch = next(iter(brain.train))
    brain.isolated = frozenset(batch.ids[:2])
    waiting(cuda, "a step of any training", lambda: brain.fit_batch(batch))


def drawn(cuda, height=lambda logits: logits, chance=0.5, place=DEVICE):
    """Samples of a sampler on the device, of classes or of all by chance."""
    settings = SgldSettings(4, 2, unconditional=chance, buffer=8, class_buffer=3)
    net = WideResNet(NormalizedFbank(8), 2, 10, 1).to(DEVICE)
    sampler = Sampler(settings, 2, (net.view_frames, 8)).to(place)
    labels = torch.zeros(6, dtype=torch.int64, device=DEVICE)
    what = "the samples of a step, all Langevin steps of them"
    with torch.autocast("cuda", torch.bfloat16):
        return waiting(
            cuda,
            what,
            lambda: sampler.draw(lambda x: height(net.view_logits(x).squeeze(1)), labels),
        )


@pytest.mark.parametrize("chance", [0.0, 1.0], ids=["of-classes", "of-all"])
def test_the_langevin_loop_never_waits(cuda, chance):
    """Not in a step of it, and not around it: neither the buffers nor the tuner."""
    samples = drawn(cuda, chance=chance)
    assert samples.device.type == "cuda" and samples.shape == (4, 61, 8)


ON_THE_CPU = {  # wherever the classifier is
    "cleanlab_issues",
    "displaced_clips",
    "label_disagreement",
    "perfect_filter_oracle",
    "random_filter",
}


@functools.cache
def yamls():
    """The defense of every yaml, by its name."""
    names = sorted(path.stem for path in (COMMON / "defenses").glob("*.yaml"))
    return {name: common("defenses", name).build()["defense"] for name in names}


def defenses(stage):
    """Names of the defenses of a stage that differ in what a device computes."""
    found = {}
    for name, made in yamls().items():
        if made.stage == stage and name not in ON_THE_CPU:
            found.setdefault(str(getattr(made, "autoencoder", name)), name)
    return list(found.values())


SHORT = {  # settings that make a defense short and leave its path as it is
    "repair_steps": 2, "mask_steps": 2, "epochs": 1, "teacher_steps": 2, "unlearn_epochs": 1, "search_steps": 2,
    "overlays": 3, "draws": 1, "autoencoder_batch": 8, "conv_channels": 4, "autoencoder_steps": 4,
    "hop": 4096, "components": 4,
}  # fmt: skip


def defense(name, **settings):
    """A defense of its yaml, made short."""
    document = common("defenses", name)
    for key, value in {**SHORT, **settings}.items():
        document.place(key, value)
    return document.build()["defense"]


@pytest.fixture
def small(cuda):
    """A small residual net on the device, for what takes any classifier."""
    torch.manual_seed(0)
    return SmallResNet(NormalizedFbank(16), len(CLASSES), (4, 4), 1).to(DEVICE).eval()


@pytest.fixture
def clean(clips):
    """A clean budget."""
    few = clips.rows[:48]
    return CleanData(lambda size: clips(24, 0, few), lambda: clips(some=few), 48, 0)


@pytest.mark.parametrize("name", defenses("filter"))
def test_every_filter(cuda, clips, clean, small, tmp_path, name, monkeypatch):
    if name.startswith("vae_pls"):
        monkeypatch.setattr(encoder, "fit", fitted)
    rows = clips.rows if name != "raw_feature_pca" else clips.rows[clips.rows["label"] == "a"]
    view = BlindView(
        rows, clips.pack, CLASSES, 0, lambda rows: small, clips, lambda share: clean,
        lambda rows: clips(some=rows), tmp_path, {"device": DEVICE},
    )  # fmt: skip
    made = defense(name)
    assert isinstance(made, FilterDefense) and set(made.scores(view)) == set(rows["ID"])


@pytest.mark.parametrize("name", defenses("repair"))
def test_every_repair(cuda, clean, small, name, monkeypatch):
    """Its steps, told by those of its optimiser, and what comes before and after them."""
    made, step, seen = defense(name), torch.optim.SGD.step, {}

    def stepped(optimizer, *args):
        before = seen.setdefault(optimizer, len(cuda.waits))
        assert len(cuda.waits) - before <= WAITS["a step of a repair"], cuda.waits[before:]
        step(optimizer, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", stepped)
    assert isinstance(made, RepairDefense)
    repaired = made.repair(small, clean)
    assert {p.device.type for p in repaired.parameters()} == {"cuda"}


@pytest.mark.parametrize("name", defenses("inference"))
def test_every_guard(cuda, clips, small, name):
    made = defense(name)
    assert isinstance(made, InferenceDefense)
    net = WideResNet(NormalizedFbank(8), 2, 10, 1).to(DEVICE) if name == "feature_noise" else small
    few = clips(some=clips.rows[: 20 if name == "step" else 2])
    guarded = made.calibrate(net, lambda: few, 0).guard(net, 0)
    batch = next(iter(few))
    behind = functools.partial(guarded, batch.wavs, batch.lens)
    judged = functools.partial(guarded.suspicion, batch.wavs, batch.lens)
    on_the_cpu = isinstance(made, Transcoding | VadTrim)  # libraries for one clip at a time
    with torch.no_grad():
        logits = behind() if on_the_cpu else waiting(cuda, "a batch behind a guard", behind)
        heard = "profiles" if name == "step" else "overlays"
        waiting(cuda, f"the {heard} of a batch of clips", judged)
    assert logits.device.type == "cuda"


@pytest.mark.parametrize("trigger", [FlowMur(steps=4), Opportunistic()], ids=["flowmur", "daba"])
def test_every_trigger_that_is_made_on_a_surrogate(cuda, clips, small, trigger):
    few = clips(24, 0, clips.rows[:48])
    made = waiting(cuda, "a sound learned or chosen", lambda: trigger.fit(small, few, 0, 0))
    assert made != trigger


def test_which_clips_a_surrogate_is_least_sure_of(cuda, clips, small):
    few = clips(some=clips.rows[:48])
    assert set(sureness(small, few).index) == set(clips.rows["ID"][:48])


def test_neurons(cuda, clips, small):
    few = clips(24, some=clips.rows[:48])
    groups = neurons.grouped(neurons.activation_changes(small, few, few))
    norms = neurons.gradient_norms(small, few, groups)
    assert {len(layers) for layers in norms.values()} == {len(groups)}


# --- what is wrong is seen


def left_behind(classifier, features):
    """`WideResNet.random_views` with offsets that stay on the CPU."""
    starts = torch.randint(0, 9, (len(features), 1)) + torch.arange(classifier.view_frames)
    return features.gather(1, starts[:, :, None].expand(-1, -1, features.shape[2]))


def test_offsets_that_stay_on_the_cpu_are_seen(cuda, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(WideResNet, "random_views", left_behind)
    with pytest.raises(RuntimeError, match="a tensor of the CPU"):
        test_a_step_of_every_yaml(cuda, clips, tmp_path, SMALL / "mvd_small.yaml")


def test_a_prior_that_stays_on_the_cpu_is_seen(cuda, clips, tmp_path):
    settings = Document(SMALL / "mvj_small_semisup.yaml")
    settings.place("langevin_steps", 1)
    brain = trainer(settings.build(), clips(8, 0), tmp_path)
    batch = next(iter(brain.train))
    brain.log_prior = torch.zeros(len(CLASSES))
    with pytest.raises(RuntimeError, match="a tensor of the CPU"):
        brain.fit_batch(batch)


def test_buffers_that_stay_on_the_cpu_are_seen(cuda):
    with pytest.raises(RuntimeError, match="a tensor of the CPU"):
        drawn(cuda, chance=0.0, place="cpu")


def test_a_value_read_in_the_langevin_loop_is_seen(cuda):
    with pytest.raises(AssertionError, match=r"all Langevin steps.*_local_scalar_dense"):
        drawn(cuda, lambda logits: logits * logits.sum().item())
