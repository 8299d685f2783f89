"""A recipe's training in two processes that torchrun's own launcher starts."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import torch._dynamo  # which a first step asks for, in every process that is forked
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bdlib.stages.compute import run_options
from bdlib.training.classifier_brain import ClassifierBrain
from bdlib.training.log import read_log

TRAIN = Path(__file__).parents[1] / "recipes" / "SpeechCommands" / "train.py"
OPTIONS = (
    *("hparams/mvj_small.yaml", "--attack=none", "--variant=10", "--max_per_class=6", "--n_mels=8"),
    *("--depth=10", "--langevin_steps=1", "--number_of_epochs=2", "--batch_size=8", "--device=cpu"),
)


def torchrun(work):
    """Two processes, forked, since starting Python twice takes longer than they work."""
    config = LaunchConfig(
        1, 1, 2, run_id="test", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        start_method="fork", max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    elastic_launch(config, work)()


def test_a_process_knows_whether_torchrun_started_it(monkeypatch):
    """By which ABL and VAE-PLS refuse; and on a CPU processes meet without NCCL."""
    assert not run_options({"device": "cpu"})["distributed_launch"]
    monkeypatch.setenv("RANK", "0")
    options = run_options({"device": "cpu"})
    assert options["distributed_launch"] and options["distributed_backend"] == "gloo"


def test_a_training_that_lost_a_process_goes_on_to_one_record(tmp_path, few_words, in_process):
    corpus = few_words(tmp_path / "corpus", 16)
    places = (f"--data_folder={corpus}", f"--output_folder={tmp_path}/exp",
              f"--results_folder={tmp_path}")  # fmt: skip

    def train():
        torch.set_num_threads(1)  # a fork has none of the threads that earlier tests started
        in_process(TRAIN, *OPTIONS, *places, "--noprogressbar")

    def train_and_die():
        fit_batch = ClassifierBrain.fit_batch

        def dying(self, batch):
            if os.environ["RANK"] == "1" and (self.counter.current, self.step) == (2, 2):
                os.kill(os.getpid(), signal.SIGKILL)
            return fit_batch(self, batch)

        ClassifierBrain.fit_batch = dying
        train()

    with pytest.raises(ChildFailedError):
        torchrun(train_and_die)
    (folder,) = (tmp_path / "exp" / "train").glob("mvj_small-*/")
    before = read_log(folder)
    assert len(before) == 1 and not list(tmp_path.glob("*.jsonl"))
    torchrun(train)
    assert read_log(folder)[0] == before[0] and len(read_log(folder)) == 2
    (checkpoint,) = (folder / "save").glob("CKPT*")
    assert {"sampler.ckpt", "sampler.rank1"} <= {path.name for path in checkpoint.iterdir()}
    (record,) = map(json.loads, (tmp_path / "SpeechCommands.jsonl").read_text().splitlines())
    assert record["status"] == "ok" and record["model"]["epochs"] == 2
