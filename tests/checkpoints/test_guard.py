"""A guard keeps the rate that was chosen, on clean clips it has not seen, and on any checkpoint."""

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from torch.onnx._internal.torchscript_exporter import onnx_proto_utils

from bdlib.checkpoints import guard as guards
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.checkpoints.clean import clean_clips, unknown_clips
from bdlib.checkpoints.guard import guard
from bdlib.cli import guard as program
from bdlib.errors import InputError
from bdlib.pack import pack

FRR, CALIBRATED, FRESH = 0.2, 80, 80  # clips of each of three classes


@pytest.fixture(scope="module")
def folders(tones, tmp_path_factory):
    """Clean clips to calibrate on, and fresh ones."""
    folder = tmp_path_factory.mktemp("guard")
    return tones(folder / "clean", CALIBRATED, 1), tones(folder / "fresh", FRESH, 2)


@pytest.fixture
def few_overlays(monkeypatch):
    """STRIP with fewer overlays, for speed."""
    common = guards.common

    def document(kind, name):
        made = common(kind, name)
        if name == "strip_vita":
            assert made.place("overlays", 8)
        return made

    monkeypatch.setattr(guards, "common", document)


@pytest.mark.parametrize("defense", ["strip_vita", "low_pass"])
def test_the_rate_is_kept_on_fresh_clean_clips(folders, checkpoint, few_overlays, defense):
    """Within the binomial error of both sets; half of the clean clips set the threshold."""
    clean, fresh = folders
    told = guard(checkpoint, [fresh], clean, defense, FRR)
    rejected = np.mean([answer.rejected for answer in told.answers])
    error = math.sqrt(FRR * (1 - FRR) * (1 / (3 * FRESH) + 1 / told.calibrated))
    assert told.calibrated == 3 * CALIBRATED // 2 and len(told.answers) == 3 * FRESH
    assert abs(rejected - FRR) < 3 * error < 0.15
    assert told.found and f"of clean clips at most {100 * FRR:g} %" in str(told)


@pytest.mark.parametrize(("suspicion", "rejected"), [(0.0, 0), (math.nan, math.inf)])
def test_equal_clips_are_not_rejected_and_no_number_is(
    folders, checkpoint, monkeypatch, suspicion, rejected
):
    """A preprocessing that leaves all calibration clips alone sets a threshold of 0."""
    clean, fresh = folders
    told, turns = guards._told, []

    def equal(guarded, batches, why):
        turns.append(1)
        value = 0.0 if len(turns) == 1 else suspicion
        return [(value, number) for _, number in told(guarded, batches, why)]

    monkeypatch.setattr(guards, "_told", equal)
    told = guard(checkpoint, [fresh], clean, "quantise", FRR)
    assert sum(a.rejected for a in told.answers) == min(rejected, len(told.answers))
    json.dumps(told.to_dict(), allow_nan=False)


def test_of_a_long_clip_only_what_is_heard_is_unpacked(
    folders, checkpoint, tones, tmp_path, monkeypatch
):
    """A small file may hold hours; the middle is what is heard of a whole clip, too."""
    long = tones(tmp_path, 4, seconds=0.5)
    with clean_clips(long, checkpoint) as whole, clean_clips(long, checkpoint, whole=False) as part:
        for one, other in zip(whole.batches(), part.batches(), strict=True):
            assert torch.equal(one.wavs, other.wavs)
        assert part.rows["duration"].max() == 0.2 and whole.rows["duration"].max() == 0.5
    with unknown_clips([long], checkpoint, 9.0) as part:
        assert part.rows["duration"].max() == 0.5
    packed = []

    def watched(rows, *rest):
        packed.append(rows["duration"].max())
        return pack(rows, *rest)

    monkeypatch.setattr("bdlib.checkpoints.clean.pack", watched)
    guard(checkpoint, [long], folders[0], "quantise", FRR, seconds=0.1)
    assert packed == [0.1, 0.1]


def test_a_net_that_draws_noise_answers_alike(folders, checkpoint):
    """As pooling of x-vectors does."""
    clean, fresh = folders

    def answers(seed):
        torch.manual_seed(seed)
        told = guard(checkpoint, [fresh / "low"], clean, "low_pass", FRR)
        return [told.threshold, *(answer.suspicion for answer in told.answers)]

    quiet = answers(0)
    noise = checkpoint.net.register_forward_hook(
        lambda net, given, out: out + torch.randn_like(out)
    )
    try:
        assert answers(1) == answers(2) != quiet
    finally:
        noise.remove()


def test_the_labels_are_those_of_the_guarded_net(folders, checkpoint):
    clean, fresh = folders
    files = sorted((fresh / "low").glob("*.wav"))[:5]
    told = guard(checkpoint, files, clean, "quantise", FRR)
    assert [answer.path for answer in told.answers] == [str(file) for file in files]
    wavs = torch.stack([torch.from_numpy(soundfile.read(f, dtype="float32")[0]) for f in files])
    quantised = guards.common("defenses", "quantise").build()["defense"].transform(wavs)
    numbers = checkpoint.net(quantised, torch.ones(5)).argmax(1)
    assert [a.label for a in told.answers] == [checkpoint.classes[n] for n in numbers]


def test_files_are_looked_at_before_a_guard_is_calibrated(checkpoint, tmp_path):
    """There is not even a folder to calibrate it on."""
    (tmp_path / "broken.wav").write_text("no audio")
    for path, words in (("nothing", "no such file"), ("broken.wav", "not readable as audio")):
        with pytest.raises(InputError, match=words):
            guard(checkpoint, [tmp_path / path], tmp_path / "nowhere")


def test_what_the_preprocessing_changes_is_suspected(folders, checkpoint):
    """The suspicion is the distance of the two softmaxes."""
    clean, fresh = folders
    told = guard(checkpoint, [fresh / "low" / "0.wav"], clean, "low_pass", FRR)
    wav = torch.from_numpy(soundfile.read(fresh / "low" / "0.wav", dtype="float32")[0])[None]
    filtered = guards.common("defenses", "low_pass").build()["defense"].transform(wav)
    one, two = (checkpoint.net(x, torch.ones(1)).softmax(1) for x in (wav, filtered))
    assert told.answers[0].suspicion == pytest.approx(
        float((one - two).detach().abs().sum() / 2), abs=1e-5
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frr": 0}, "`frr`"),
        ({"frr": 0.001}, "`frr`.*2000 clean clips"),
        ({"defense": "nothing"}, "`defense` nothing.*strip_vita"),
        ({"paths": ["nowhere"]}, "nowhere: no such file"),
        ({"paths": ["{empty}"]}, "no audio in it"),
    ],
)
def test_what_cannot_be_asked(folders, checkpoint, tmp_path, options, words):
    clean, fresh = folders
    given = {"paths": [fresh], "defense": "low_pass", "frr": FRR} | options
    given["paths"] = [str(path).replace("{empty}", str(tmp_path)) for path in given["paths"]]
    with pytest.raises(InputError, match=words):
        guard(checkpoint, calibrate=clean, **given)


def exported(net, path, patch):
    """A net that hears waveforms as a file of ONNX, for which torch wants another package to no end."""
    patch.setattr(onnx_proto_utils, "_add_onnxscript_fn", lambda data, _: data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(1, 3200),),
            str(path),
            dynamo=False,
            input_names=["wavs"],
            dynamic_axes={"wavs": {0: "clips"}},
        )
    return path


def test_a_file_of_onnx_answers(folders, tmp_path, capsys, monkeypatch):
    clean, fresh = folders
    torch.manual_seed(0)
    net = torch.nn.Linear(3200, 3, bias=False)
    path = exported(net, tmp_path / "net.onnx", monkeypatch)
    given = [str(path), str(fresh / "low"), "--calibrate", str(clean), "--frr", "0.2", "--json"]
    given += ["--defense", "quantise", "--classes", "middle,low,high"]  # 0.2 s, says the file
    status = program.main(given)
    told = json.loads(capsys.readouterr().out)
    assert status == any(clip["rejected"] for clip in told["clips"]) and len(told["clips"]) == FRESH
    wav = torch.from_numpy(soundfile.read(told["clips"][0]["path"], dtype="float32")[0])
    number = int(
        net(guards.common("defenses", "quantise").build()["defense"].transform(wav[None])).argmax()
    )
    assert told["clips"][0]["label"] == ("middle", "low", "high")[number]
    assert program.main([*given[:-1], "middle,low"]) == 2
    assert "2 classes of a net of 3" in capsys.readouterr().err
    assert program.main([*given, "--frr", "x"]) == 2
    capsys.readouterr()
    monkeypatch.setattr("bdlib.checkpoints.onnx.MOST", 2)
    assert program.main(given) == 2 and "(3 classes)" in capsys.readouterr().err


def field(number, value):
    """A field of protobuf: a number, bytes or text."""

    def digits(n):
        return bytes([n % 128 | 128]) + digits(n // 128) if n > 127 else bytes([n])

    if isinstance(value, int):
        return digits(number << 3) + digits(value)
    value = value.encode() if isinstance(value, str) else value
    return digits(number << 3 | 2) + digits(len(value)) + value


def with_weights_in(location):
    """A net of ONNX, waveforms (B, 1000) times weights (1000, 3), which lie in another file."""

    def pairs(key, value):
        return field(13, field(1, key) + field(2, value))

    def value_of(name, *shape):
        sizes = b"".join(field(1, field(1, n) if n else field(2, "B")) for n in shape)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, sizes)))

    weights = field(1, 1000) + field(1, 3) + field(2, 1) + field(8, "W") + field(14, 1)
    weights += pairs("location", location) + pairs("offset", "0") + pairs("length", "12000")
    node = field(1, "x") + field(1, "W") + field(2, "y") + field(4, "MatMul")
    ends = field(11, value_of("x", 0, 1000)) + field(12, value_of("y", 0, 3))
    graph = field(1, node) + field(2, "g") + field(5, weights) + ends
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


@pytest.mark.parametrize("location", ["beside.bin", "../deep/beside.bin"])
def test_weights_of_onnx_in_other_files_are_not_read(tmp_path, monkeypatch, location):
    """They would be looked for where the command runs."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "beside.bin").write_bytes(bytes(12_000))
    (tmp_path / "deep" / "net.onnx").write_bytes(with_weights_in(location))
    monkeypatch.chdir(tmp_path / "deep")
    with pytest.raises(InputError, match=r"net\.onnx: cannot be read"):
        Checkpoint.open(tmp_path / "deep" / "net.onnx")


def test_classes_without_clean_clips_are_told(folders, checkpoint, tmp_path):
    clean, fresh = folders
    (tmp_path / "clean").mkdir()
    for name in ("low", "high"):
        (tmp_path / "clean" / name).symlink_to(clean / name)
    told = guard(checkpoint, [fresh / "low"], tmp_path / "clean", "low_pass", FRR)
    assert told.lacking == ("middle",) and told.to_dict()["not_calibrated"] == ["middle"]
    assert str(told).endswith("not told for 1 classes without clean clips: middle")
    assert guard(checkpoint, [fresh / "low"], clean, "low_pass", FRR).lacking == ()


def test_answers_are_in_the_order_of_the_files(folders, checkpoint):
    clean, fresh = folders
    told = guard(checkpoint, [fresh], clean, "low_pass", FRR)
    assert len(told.answers) > 10
    assert [a.path for a in told.answers] == sorted(str(p) for p in fresh.resolve().rglob("*.wav"))


def test_a_fault_is_no_answer(folders, monkeypatch, capsys):
    """1 would say that clips were rejected."""
    clean, fresh = folders

    def broken(*given, **more):
        raise RuntimeError("no such\nkernel")

    monkeypatch.setattr("bdlib.checkpoints.checkpoint.Checkpoint.open", broken)
    assert program.main(["net", str(fresh), "--calibrate", str(clean)]) == 2
    assert capsys.readouterr().err == "error: RuntimeError: no such kernel\n"


def test_onnx_is_not_repaired(checkpoint, folders):
    from bdlib.checkpoints.repair import repair

    with pytest.raises(InputError, match="ONNX"):
        repair(replace(checkpoint, kind="onnx"), folders[0])
