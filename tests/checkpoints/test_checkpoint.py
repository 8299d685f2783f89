"""Folders and files that people have are read, written, and read again with the same answers."""

import json

import pytest
import torch
from safetensors.torch import save_file
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.inference.classifiers import EncoderClassifier
from speechbrain.lobes.models import ECAPA_TDNN, ResNet, Xvector

from bdlib.checkpoints import architecture, card, repair, speechbrain
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.cli import export as program
from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.models.keyword import SmallResNet
from bdlib.stages import fitting
from bdlib.stages.document import common
from bdlib.training.checkpoints import WholeCheckpointer

CLASSES = ("middle", "low", "high")  # in no order, as SpeechBrain numbers them as they come
MELS = 24


def made(net):
    """Encoder, classifier and their arguments, as a recipe of SpeechBrain makes them."""
    torch.manual_seed(0)
    if net == "xvector":
        sizes = {"in_channels": MELS, "tdnn_channels": [8, 8, 8, 8, 16], "lin_neurons": 12}
        encoder = Xvector.Xvector(**sizes)
        head = {"input_shape": [None, None, 12], "lin_neurons": 12, "out_neurons": 3}
        return "Xvector.Xvector", sizes, encoder, head, Xvector.Classifier(**head)
    if net == "ecapa":
        sizes = {"input_size": MELS, "channels": [16, 16, 16, 16, 24], "attention_channels": 8}
        sizes |= {"kernel_sizes": [5, 3, 3, 3, 1], "dilations": [1, 5, 7, 6, 1]}
        sizes |= {"lin_neurons": 12, "se_channels": 8, "res2net_scale": 4}
        name, encoder = "ECAPA_TDNN.ECAPA_TDNN", ECAPA_TDNN.ECAPA_TDNN(**sizes)
    else:
        sizes = {"input_size": MELS, "channels": [4, 4, 8, 8], "block_sizes": [1, 2, 1, 1]}
        sizes |= {"strides": [1, 2, 1, 2], "lin_neurons": 12}
        name, encoder = "ResNet.ResNet", ResNet.ResNet(**sizes)
    head = {"input_size": 12, "out_neurons": 3}
    return name, sizes, encoder, head, ECAPA_TDNN.Classifier(**head)


@pytest.fixture(params=["xvector", "ecapa", "resnet"])
def theirs(request, tmp_path):
    """A folder that plain SpeechBrain code wrote."""
    name, sizes, encoder, head, classifier = made(request.param)
    folder = tmp_path / "theirs"
    folder.mkdir()
    for part in (encoder, classifier):
        for module in part.modules():  # as training leaves them
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 2)
    torch.save(encoder.state_dict(), folder / "embedding_model.ckpt")
    torch.save(classifier.state_dict(), folder / "classifier.ckpt")
    labels = CategoricalEncoder()
    labels.update_from_iterable(CLASSES)
    labels.save(folder / "label_encoder.ckpt")
    text = speechbrain.HYPERPARAMS.format(
        rate=16000, mels=MELS, net=f"{speechbrain.LOBES}{name}", sizes=json.dumps(sizes),
        head=f"{speechbrain.LOBES}{name.partition('.')[0]}.Classifier", head_sizes=json.dumps(head),
    )  # fmt: skip
    (folder / "hyperparams.yaml").write_text(text)
    return folder


def told_by_speechbrain(folder, wavs):
    classifier = EncoderClassifier.from_hparams(source=str(folder), savedir=str(folder))
    scores, _, _, names = classifier.classify_batch(wavs)
    return scores.squeeze(1), names


@torch.no_grad()
def told_here(checkpoint, wavs):
    """As SpeechBrain tells it: log-probabilities of an x-vector, cosines of others; and names."""
    logits = checkpoint.net(wavs, torch.ones(len(wavs)))
    xvector = type(checkpoint.net).__name__ == "XVectorClassifier"
    scores = logits.log_softmax(1) if xvector else logits / speechbrain.SCALE
    return scores, [checkpoint.classes[n] for n in logits.argmax(1)]


def test_a_folder_of_speechbrain_says_what_it_says_there(theirs, tmp_path):
    """Before and after it is written again; dilations and strides are those of its yaml."""
    wavs = 0.1 * torch.randn(4, 12000)
    expected, names = told_by_speechbrain(theirs, wavs)
    read = Checkpoint.open(theirs)
    assert (read.kind, read.classes, read.sample_rate) == ("speechbrain", CLASSES, 16000)
    written = Checkpoint.open(card.save(read, tmp_path / "ours"))
    again, _ = told_by_speechbrain(tmp_path / "ours", wavs)
    xvector = type(read.net).__name__ == "XVectorClassifier"
    near = {"atol": 1e-3 if xvector else 1e-6, "rtol": 1e-3}  # its pooling adds faint noise
    torch.testing.assert_close(again, expected, **near)
    for checkpoint in (read, written):
        ours, named = told_here(checkpoint, wavs)
        torch.testing.assert_close(ours, expected, **near)
        assert named == names


def shorter(kind, name):
    """A repair's yaml with three steps."""
    document = common(kind, name)
    assert document.place("repair_steps", 3)
    return document


@pytest.mark.parametrize("theirs", ["xvector", "ecapa"], indirect=True)
def test_a_repaired_folder_is_loaded_by_speechbrain(theirs, tones, tmp_path, monkeypatch):
    monkeypatch.setattr(repair, "common", shorter)
    clean, out = tones(tmp_path / "clean", 6), tmp_path / "out"
    result = repair.repair(Checkpoint.open(theirs), clean, out, ["fine_tuning"], max_drop=1)
    wavs = 0.1 * torch.randn(4, 3200)
    (before, _), (after, names) = (told_by_speechbrain(folder, wavs) for folder in (theirs, out))
    ours, named = told_here(result.checkpoint, wavs)
    torch.testing.assert_close(ours, after, atol=1e-3, rtol=1e-3)
    assert named == names and (after - before).abs().max() > 0.01


def trained(folder, attack="clap", rate=0.1, keep="best"):
    """The folder of a training here, of an untrained net."""
    settings = architecture.named("keyword_resnet")
    settings["model"]["classifier"] |= {"channels": [8, 8], "blocks": 1}
    settings["poison"] |= {"attack": attack, "rate": rate}
    settings["model"]["keep"] = keep
    classes = ("left", "no", "yes")
    fitting.describe(folder, settings, classes)
    nets = []
    for loss in (1.0, 2.0):
        torch.manual_seed(int(loss))
        nets.append(SmallResNet(NormalizedFbank(64), 3, (8, 8), 1).eval())
        saver = WholeCheckpointer(folder / "save", recoverables={"classifier": nets[-1]})
        saver.save_checkpoint(meta={"valid_loss": loss})
    return nets


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_training_is_exported_with_a_warning(tmp_path, keep):
    best, last = trained(tmp_path / "t", keep=keep)
    read = Checkpoint.open(tmp_path / "t")
    assert (read.classes, read.seconds, read.backdoored) == (("left", "no", "yes"), 1.0, True)
    again = Checkpoint.open(card.save(read, tmp_path / "out"))
    wavs, whole = 0.1 * torch.randn(2, 16000), torch.ones(2)
    expected = {"best": best, "last": last}[keep](wavs, whole)
    for checkpoint in (read, again):
        assert torch.equal(checkpoint.net(wavs, whole), expected)
    assert (again.backdoored, again.kind, again.settings) == (True, "bdlib", read.settings)
    told = (tmp_path / "out" / "README.md").read_text()
    assert "Backdoored on purpose" in told and "not-for-deployment" in told
    with pytest.raises(InputError, match="already there"):
        card.save(read, tmp_path / "out")


@pytest.mark.parametrize("poison", [("none", 0.1), ("clap", 0)], ids=["clean", "clean twin"])
def test_a_clean_training_has_no_warning(tmp_path, poison):
    trained(tmp_path / "t", *poison)
    card.save(Checkpoint.open(tmp_path / "t"), tmp_path / "out")
    assert "purpose" not in (tmp_path / "out" / "README.md").read_text()


def test_weights_alone_need_a_name_of_what_they_are_of(tmp_path):
    path = tmp_path / "w.safetensors"
    net = architecture.Document(architecture.HPARAMS / "smallcnn.yaml").build()["model"]
    state = net["classifier"](n_classes=4).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    with pytest.raises(InputError, match="`model`"):
        Checkpoint.open(path)
    with pytest.raises(InputError, match=r"no such yaml.*smallcnn"):
        Checkpoint.open(path, "nothing")
    assert Checkpoint.open(path, "smallcnn").classes == ("0", "1", "2", "3")
    with pytest.raises(InputError, match="2 classes of a net of 4"):
        Checkpoint.open(path, "smallcnn", ["a", "b"])
    fitting.write_labels("dcba", tmp_path / "label_encoder.txt")
    assert Checkpoint.open(path, "smallcnn").classes == ("d", "c", "b", "a")
    given = [str(path), str(tmp_path / "out"), "--model=smallcnn", "--classes=p,q,r,s"]
    assert program.main(given) == 0
    assert Checkpoint.open(tmp_path / "out").classes == ("p", "q", "r", "s")


def test_the_program_that_exports(tmp_path, capsys):
    """What is written is read again, and no folder is overwritten."""
    trained(tmp_path / "t")
    given = [str(tmp_path / "t"), str(tmp_path / "out")]
    assert program.main(given) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'out'}\n"
    assert Checkpoint.open(tmp_path / "out").backdoored
    assert program.main(given) == 2
    said = capsys.readouterr()
    assert said.err == f"error: {tmp_path / 'out'}: already there; give a new folder\n"
    assert program.main([given[0], str(tmp_path / "t" / "in")]) == 2
    assert "lies in the checkpoint" in capsys.readouterr().err
    assert program.main([given[0], str(tmp_path / "again"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["backdoored"] is True and (tmp_path / "again" / "README.md").exists()
