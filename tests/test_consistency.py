"""What must hold between files: stubs alike, yaml built and read, blind code blind, text that is true."""

import ast
import contextlib
import importlib
import importlib.util
import io
import json
import multiprocessing
import os
import re
import runpy
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bdlib import listing
from bdlib.cli import defend, pls, poison, prepare, train
from bdlib.cli.main import COMMANDS
from bdlib.errors import InputError
from bdlib.files import COMMON
from bdlib.manifest import NEVER_SHOWN, SPLITS
from bdlib.mini import DATASETS
from bdlib.stages.document import Document, common, known
from bdlib.stages.prepare import Prepared
from bdlib.stages.recipe import check

pytestmark = pytest.mark.usefixtures("unpainted")
ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
NAMES = sorted(path.parent.name for path in RECIPES.glob("*/corpus.yaml"))
YAMLS = sorted(RECIPES.glob("*/hparams/*.yaml"))
PROGRAMS = {"prepare": prepare, "poison": poison, "train": train, "defend": defend, "pls": pls}


def tracked():
    """Files of the project; those that git knows, where this is a clone."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a clone")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def recipe_prepare(recipe):
    """The `prepare` of a recipe, imported under a name of its own."""
    path = RECIPES / recipe / "prepare.py"
    spec = importlib.util.spec_from_file_location(f"prepare_{recipe}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.prepare


def call(program, arguments, prepare_corpus):
    """Run a program in this process: exit code, output, errors."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    before, sys.argv = sys.argv, [f"{program}.py", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            PROGRAMS[program].main(prepare_corpus)
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


# --- recipes


def test_there_are_recipes():
    assert {"ESD", "RAVDESS", "SpeechCommands"} <= set(NAMES) and len(YAMLS) >= 20


@pytest.mark.parametrize("program", ["train", "poison", "defend", "pls"])
def test_stubs_are_alike(program):
    stubs = {path.parent.name: path.read_text() for path in RECIPES.glob(f"*/{program}.py")}
    assert set(stubs) == ({"SpeechCommands"} if program == "pls" else set(NAMES))
    (text,) = set(stubs.values())
    assert f"from bdlib.cli.{program} import main" in text


def test_run_scripts_differ_in_name_and_yaml_alone():
    def without_own(name):
        text = (RECIPES / name / "run.sh").read_text().replace(f"The {name} recipe", "")
        return re.sub(r'^hparams=".*"$', "", text, flags=re.MULTILINE)

    assert len({without_own(name) for name in NAMES}) == 1
    for name in NAMES:
        path = RECIPES / name / "run.sh"
        assert path.stat().st_mode & stat.S_IXUSR
        (given,) = re.findall(r'^hparams="(.*)"$', path.read_text(), flags=re.MULTILINE)
        assert all((path.parent / yaml).is_file() for yaml in given.split())


def test_every_recipe_has_the_same_shape():
    for name in NAMES:
        assert {"README.md", "corpus.yaml", "poison.yaml", "prepare.py"} <= {
            path.name for path in (RECIPES / name).iterdir()
        }
        assert Document(RECIPES / name / "corpus.yaml").plain()["name"] == name


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_every_yaml_builds(path):
    """The whole of it at full size, without memory for the weights."""
    document = Document(path)
    check(document)
    with torch.device("meta"):
        built = document.build()
        classifier = built["model"]["classifier"](n_classes=5)
    parameters = list(classifier.parameters())
    assert sum(p.numel() for p in parameters) > 1_000
    assert 0 < built["model"]["schedule"](built["train"]["lr"])(0, 100) <= built["train"]["lr"]
    settings = document.plain()
    assert (COMMON / "attacks" / f"{settings['poison']['attack']}.yaml").is_file()
    assert (COMMON / "labels" / f"{settings['poison']['labels']}.yaml").is_file()
    weights = [torch.nn.Parameter(torch.ones(1))]
    assert built["train"]["optimizer"](weights).param_groups[0]["params"] == weights


@pytest.mark.parametrize("kind", ["attacks", "labels", "defenses"])
def test_every_common_yaml_builds(kind):
    key = {"attacks": "trigger", "labels": "policy", "defenses": "defense"}[kind]
    for name in known(kind).split():
        document = common(kind, name)
        if name == "audio_file":
            document.place("trigger_file", str(ROOT / "LICENSE"))  # read when it is heard
        assert document.build()[key] is not None


# --- every key does something

TONES = {"a": 300, "b": 700, "c": 1500}
RATE = 16000
TINY = ("--number_of_epochs=3", "--batch_size=6", "--seconds=0.8", "--lr=0.002", "--noprogressbar")
ATTACK = ("--attack=tone", "--labels=one_to_one", "--source=a", "--target=b", "--rate=0.5",
          "--of=source", "--hertz=3000")  # fmt: skip


def tones(label="tone", language="en", variant="all", max_per_class=None, test_folder=None):
    """A `prepare` that takes the keys of all recipes; see `test_prepare_gets_every_other_key`."""

    def prepared(data_folder, **settings):
        parts = {split: listing.from_folder(data_folder / split) for split in SPLITS}
        for split, rows in parts.items():
            rows["wav"] = rows["wav"].str.replace("$data_root", f"$data_root/{split}")
        return Prepared(parts, "subset", "tones")

    return prepared


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three classes of noisy tones: 12 clips a class to train on, 6 to validate, 6 to test."""
    root = tmp_path_factory.mktemp("tones")
    generator = np.random.Generator(np.random.PCG64(0))
    for split, count in (("train", 12), ("valid", 6), ("test", 6)):
        for label, hertz in TONES.items():
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pitch = hertz * generator.uniform(0.9, 1.1)
                tone = 0.2 * np.sin(2 * np.pi * pitch * np.arange(RATE) / RATE)
                noisy = tone + 0.05 * generator.standard_normal(RATE)
                soundfile.write(root / split / label / f"{number}.wav", noisy, RATE)
    return root


def outcome(folder):
    """What a run made, without the settings that a program only repeats and without times.

    The training log, the packed samples, who is poisoned to what, and the numbers of the record.
    """
    logs, records = (
        list(folder.glob("train/*/train_log.txt")),
        list(folder.rglob("results/*.jsonl")),
    )
    packs = sorted(path.read_bytes() for path in folder.glob("pack/*/samples.i16"))
    truths = [path.read_text() for path in folder.glob("poison/*/truth.csv")]
    lines = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("seconds")
    kept = [
        {key: json.loads(path.read_text())[key] for key in ("metrics", "experiment")}
        for path in records
    ]
    return {"log": lines, "packs": packs, "truths": truths, "records": kept}


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """Trains on the tones with options of its own; gives the outcome."""

    def trained(*options, place=None):
        place = place or tmp_path_factory.mktemp("run")
        given = {option.partition("=")[0] for option in options}
        usual = (*TINY, *ATTACK, f"--data_folder={corpus}", f"--output_folder={place}",
                 f"--results_folder={place}/results")  # fmt: skip
        usual = [option for option in usual if option.partition("=")[0] not in given]
        yaml = RECIPES / "RAVDESS" / "hparams" / "xvector_small.yaml"
        options = [option for option in options if not option.startswith("--hertz=None")]
        code, out, err = call("train", [yaml, *usual, *options], tones())
        assert code == 0, out + err
        return outcome(place)

    return trained


@pytest.fixture(scope="module")
def usual(run):
    return run()


CHANGED = {
    "train.number_of_epochs": ["--number_of_epochs=2"],
    "train.batch_size": ["--batch_size=9"],
    "train.lr": ["--lr=0.004"],
    "train.max_grad_norm": ["--max_grad_norm=0.01"],
    "train.eps": ["--eps=0.1"],
    "train.weight_decay": ["--weight_decay=0.5"],
    "train.held_out": ["--held_out=0.1"],
    "run.seed": ["--seed=1"],
    "run.experiment": ["--experiment=mine"],
    "corpus.sample_rate": ["--sample_rate=12000"],
    "corpus.seconds": ["--seconds=0.5"],
    "corpus.pad_seconds": ["--pad_seconds=1.2"],
    "poison.labels": ["--labels=all_to_one", "--of=source"],
    "poison.source": ["--source=c"],
    "poison.target": ["--target=c"],
    "poison.rate": ["--rate=0.25"],
    "poison.of": ["--of=dataset", "--rate=0.25"],
    "poison.poison_seed": ["--poison_seed=1"],
}
ELSEWHERE = {  # keys whose use has a test of its own
    "train.patience": "test_patience_and_warm_up_stop_a_training",
    "train.warmup_epochs": "test_patience_and_warm_up_stop_a_training",
    "train.optimizer": "test_every_yaml_builds",
    "train.fused": "test_every_yaml_builds",
    "poison.attack": "test_attack_none_leaves_the_corpus_clean",
    "run.data_folder": "test_folders_are_those_asked_for",
    "run.output_folder": "test_folders_are_those_asked_for",
    "run.results_folder": "test_folders_are_those_asked_for",
    "corpus.name": "test_folders_are_those_asked_for",
}


def test_every_key_is_in_the_lists_above():
    """A key added to the common yaml must be shown to do something, and so must those there are."""
    sections = {"run": COMMON / "run.yaml", "train": COMMON / "train.yaml"}
    keys = {f"{name}.{key}" for name, path in sections.items() for key in Document(path).plain()}
    for name in NAMES:
        keys |= {f"poison.{key}" for key in Document(RECIPES / name / "poison.yaml").plain()}
    keys |= {f"corpus.{key}" for key in ("name", "sample_rate", "seconds", "pad_seconds")}
    assert keys == set(CHANGED) | set(ELSEWHERE) and not set(CHANGED) & set(ELSEWHERE)
    assert all(name in globals() for name in ELSEWHERE.values())


@pytest.mark.parametrize("key", CHANGED)
def test_a_changed_key_changes_the_outcome(run, usual, key):
    assert run(*CHANGED[key]) != usual


def test_the_outcome_does_not_change_by_itself(run, usual):
    """Else the test above would say nothing."""
    assert run() == usual
    assert usual["log"] and usual["packs"] and usual["truths"] and usual["records"]


def test_patience_and_warm_up_stop_a_training(run):
    """At a rate too small to learn anything, a training ends after warm-up and patience."""

    def epochs(*options):
        return len(run("--lr=1e-30", "--number_of_epochs=9", *options)["log"])

    least = epochs("--patience=1", "--warmup_epochs=0")
    assert least < epochs("--patience=3", "--warmup_epochs=0")
    assert least < epochs("--patience=1", "--warmup_epochs=4")


def test_attack_none_leaves_the_corpus_clean(run, usual):
    clean = run("--attack=none", "--hertz=None")
    assert clean["truths"] == [] and len(clean["packs"]) == 3
    assert "attack_success_rate" in usual["records"][0]["metrics"]
    assert "attack_success_rate" not in clean["records"][0]["metrics"]


def test_folders_are_those_asked_for(run, tmp_path, corpus):
    run("--name=Mine", f"--output_folder={tmp_path}/o", f"--results_folder={tmp_path}/r")
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["Mine.jsonl"]
    assert {"manifest", "poison", "pack", "train"} == {p.name for p in (tmp_path / "o").iterdir()}
    (about,) = (tmp_path / "o").glob("manifest/Mine-*/manifest.json")
    assert json.loads(about.read_text())["counts"] == {"train": 36, "valid": 18, "test": 18}


@pytest.mark.parametrize("name", NAMES)
def test_prepare_gets_every_other_key(name, tmp_path):
    """What `corpus.yaml` has beyond the common keys reaches the recipe's `prepare`, changed or not."""
    own = ("name", "sample_rate", "seconds", "pad_seconds")
    keys = Document(RECIPES / name / "corpus.yaml").plain()
    others = {key: value for key, value in keys.items() if key not in own}
    assert others or name not in DATASETS, "nothing to test"
    got = {}

    def spy(data_folder, **settings):
        got.update(settings)
        raise InputError("seen")

    yaml = next(path for path in YAMLS if path.parts[-3] == name)
    for key, value in others.items():
        other = "True" if isinstance(value, bool) else "7"
        folders = [f"--data_folder={tmp_path}", f"--output_folder={tmp_path}/exp"]
        code, _, err = call("prepare", [yaml, *folders, f"--{key}={other}"], spy)
        assert (code, err) == (1, "error: seen\n")
        assert str(got[key]) == other != str(value) and got.keys() == others.keys()


# --- code


def public(tree, inside=""):
    """Public classes and functions of a module, and public methods."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_") and node.name not in ("__init__", "__call__"):
                continue
            yield f"{inside}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{inside}{node.name}.")


SOURCES = [
    *(ROOT / "bdlib").rglob("*.py"),
    *RECIPES.glob("*/*.py"),
    *(ROOT / "tools").rglob("*.py"),
]


@pytest.mark.parametrize("path", sorted(SOURCES), ids=lambda p: str(p.relative_to(ROOT)))
def test_public_things_have_docstrings_and_types(path):
    tree = ast.parse(path.read_text())
    missing = [] if not tree.body or ast.get_docstring(tree) else ["docstring of the module"]
    for name, node in public(tree):
        # What a constructor does stands in the docstring of its class.
        if not name.endswith("__init__") and not ast.get_docstring(node):
            missing.append(f"docstring of {name}")
        if isinstance(node, ast.ClassDef):
            continue
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs,
                 *filter(None, (node.args.vararg, node.args.kwarg))]  # fmt: skip
        missing += [
            f"type of {name}({argument.arg})"
            for argument in every
            if argument.annotation is None and argument.arg not in ("self", "cls")
        ]
        missing += [] if node.returns is not None else [f"return type of {name}"]
    assert not missing


BLIND = sorted(
    p for part in ("defenses", "training") for p in (ROOT / "bdlib" / part).rglob("*.py")
)
FORBIDDEN = tuple(
    f"bdlib.{name}" for name in ("attacks", "evaluation", "records", "stages", "report", "cli")
)


def imported(tree):
    """Names of all modules that a module imports, at the top or in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", BLIND, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_defender_does_not_ask_for_the_truth(path):
    tree = ast.parse(path.read_text())
    assert not [name for name in imported(tree) if name.startswith(FORBIDDEN)]
    for node in ast.walk(tree):
        name = getattr(node, "attr", None) or getattr(node, "id", None)
        assert name not in ("truth", "read_truth", "TRUTH", "NEVER_SHOWN", "import_module",
                            "__import__"), ast.unparse(node)  # fmt: skip
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in NEVER_SHOWN and not node.value.endswith("truth.csv")


def test_the_defender_does_not_reach_the_truth_through_others():
    """What defenses and training pull in, however far away; libraries need not be loaded once more."""
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in BLIND]
    reading, writing = multiprocessing.Pipe(duplex=False)

    def afresh():
        for name in [name for name in sys.modules if name.partition(".")[0] == "bdlib"]:
            del sys.modules[name]
        for name in modules:
            importlib.import_module(name)
        writing.send([name for name in sys.modules if name.startswith("bdlib")])

    child = multiprocessing.get_context("fork").Process(target=afresh)
    child.start()
    writing.close()
    loaded = set(reading.recv())
    child.join()
    assert "bdlib.defenses.base" in loaded and "bdlib.training.classifier_brain" in loaded
    assert not [name for name in loaded if name.startswith(FORBIDDEN)]


# --- text


def test_tracked_files_hold_no_path_of_a_machine():
    places = re.compile(r"(?<![\w$.*}])(/(tmp|home|root|Users)/|C:\\Users)")
    named = []
    for path in tracked():
        if path == Path(__file__).resolve():
            continue
        with contextlib.suppress(UnicodeDecodeError):
            lines = path.read_text("utf-8").splitlines()
            named += [
                f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
                for number, line in enumerate(lines, start=1)
                if places.search(line)
            ]
    assert not named


def test_no_audio_and_no_weights_are_tracked():
    kinds = {".wav", ".flac", ".ogg", ".mp3", ".ckpt", ".pt", ".pth", ".npy", ".pkl", ".ipynb"}
    assert not [path for path in tracked() if path.suffix in kinds]


PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted(RECIPES.glob("*/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def commands(page):
    """Command lines of a page: those of its bash blocks, and those between backticks."""
    text = page.read_text()
    blocks = re.findall(r"^( *)```bash\n(.*?)^\1```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for _, block in blocks for line in block.replace("\\\n", " ").splitlines()]
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    spans, starts = (
        re.findall(r"`([^`\n]+)`", rest),
        ("python ", "./", "cd ", "mkdir ", "cp ", "torchrun "),
    )
    lines += [span for span in spans if span.startswith(starts)]
    lines += [f"python {span}" for span in spans if re.match(r"tools/\S+\.py ", span)]
    for line in lines:
        for part in line.split("&&"):
            if words := shlex.split(part, comments=True):
                if words[0] == "torchrun":
                    words = ["python", *(w for w in words[1:] if "_per_node" not in w)]
                yield words


FILLED = {"--attack=<name>": "--attack=clap", "--defense=<name>": "--defense=random_filter"}
PROBE = "no such corpus"


def understands(folder, words):
    """Run a recipe's program on a corpus that is not there: all else of its line must be right."""
    program, *rest = words
    if rest[-1] == "--help":
        code, out, err = call(program, rest, None)
        assert code == 0 and not err and "--" in out
        return
    rest = [FILLED.get(word, word) for word in rest if not word.startswith("--data_folder")]
    code, _, err = call(program, [*rest, f"--data_folder={PROBE}"], recipe_prepare(folder.name))
    assert code == 1 and err.startswith(f"error: {PROBE}: no such folder"), err


def programs_of_run_script(folder, words, tmp_path):
    """What a `run.sh` would start, told by a stand-in for the Python that it gives the lines to."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$*" = run.py ] && cat\n')
    python.chmod(0o755)
    words = ["mini" if word == "FOLDER" else word for word in words]
    shown = subprocess.run(
        [folder / "run.sh", *words], env=os.environ | {"PYTHON": str(python)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    lines = [shlex.split(line, comments=True) for line in shown.stdout.splitlines()]
    return [words for words in lines if words]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_the_pages(page, monkeypatch, tmp_path, tool_help):
    """Every file and every option that a page names is there, and understood."""
    docs = page.parent == ROOT / "docs"  # where commands are those of the repository's folder
    folder, seen = ROOT if docs else page.parent, 0
    for words in commands(page):
        seen += 1
        first, *rest = words
        if first == "bdlib":
            assert rest[0] in COMMANDS, words
            continue
        if first == "pip":
            extras = re.findall(r"\[(\w+)\]", " ".join(rest))
            assert all(f'"{extra}": [' in (ROOT / "setup.py").read_text() for extra in extras)
            continue
        assert first in ("cd", ".", "python", "pre-commit", "mkdir", "cp") or first[:2] == "./", (
            words
        )
        if "MyCorpus" in " ".join(words):
            folder = RECIPES / "RAVDESS"  # made by the reader; `test_contributing` makes it
        elif first == "cd":
            folder = folder / rest[0]
            assert folder.is_dir(), words
        elif first == "." or first == "pre-commit":
            assert first != "." or rest == [".venv/bin/activate"]  # made by the quickstart
            assert first == "." or (ROOT / ".pre-commit-config.yaml").is_file()
        elif first == "./tools/gpu.sh":
            known = (ROOT / "tools/bench/gpu/__main__.py").read_text()
            assert all(f'"{word}"' in known for word in rest if word.startswith("--")), words
        elif first == "python" and "tools/" in rest[0]:
            home = ROOT if rest[0].startswith("tools/") else folder
            shown = tool_help((home / rest[0]).resolve())
            options = [word.partition("=")[0] for word in rest[1:] if word.startswith("--")]
            assert all(option in shown for option in options)
            assert all((home / word).is_file() for word in rest[1:] if word.endswith(".yaml"))
        elif first == "python":
            files = [rest[0], *(word for word in rest[1:] if word.endswith(".yaml"))]
            here = all((folder / file).is_file() for file in files)
            home = folder if here else RECIPES / "SpeechCommands"
            assert all((home / file).is_file() for file in files), words
            monkeypatch.chdir(home)
            understands(home, [rest[0].removesuffix(".py"), *rest[1:]])
        elif first == "./run.sh":
            home = folder if (folder / first).is_file() else RECIPES / "SpeechCommands"
            monkeypatch.chdir(home)
            for program, *arguments in programs_of_run_script(home, rest, tmp_path):
                if not program.endswith("render.py"):
                    understands(home, [program.removesuffix(".py"), *arguments])
        elif first[:2] == "./":
            assert os.access(ROOT / first, os.X_OK), words
            assert all((ROOT / word).exists() for word in rest)
    assert seen or (docs and "```bash" not in page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_the_pages(page):
    """And paths between backticks that begin in the repository's folder."""
    for path in re.findall(
        r"`((?:tools|bdlib|recipes|tests|docs)/[\w./-]*)[`\s]", page.read_text()
    ):
        assert "MyCorpus" in path or (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = page if not path else page.parent / path
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^\w-]", "", t.lower().replace(" ", "-")) for t in titles}


def test_stages_of_a_run_script(tmp_path):
    """Each program is started in the stages it stands for, and in no other."""

    def started(*options):
        lines = programs_of_run_script(
            RECIPES / "ESD",
            ["--data_folder=mini", "--defenses", "random_filter", *options],
            tmp_path,
        )
        return [
            f"{Path(line[0]).stem}{'!' if any('--stop_stage' in word for word in line) else ''}"
            for line in lines
        ]

    every = ["prepare", "poison", "train!", "defend!", "train", "defend", "render"]
    assert started() == every
    assert started("--stage", "4", "--stop_stage", "6") == ["train!", "defend!"]
    assert started("--stage=1", "--stop_stage=3") == ["prepare", "poison"]
    assert started("--stage=2", "--stop_stage=2") == started("--stage=3", "--stop_stage=3")
    assert started("--stage=7") == ["train", "defend", "render"]
    assert started("--seeds", "0 1", "--stop_stage", "1") == ["prepare"] * 2
    assert started("--stage=9") == ["render"]


# --- help


@pytest.fixture
def tool_help(in_process, capsys):
    """What a tool says to --help."""

    def shown(path):
        with pytest.raises(SystemExit) as stop:
            in_process(path, "--help")
        out, err = capsys.readouterr()
        assert not stop.value.code and not err and len(out) > 100, (path, err)
        return out

    return shown


def test_help_of_every_tool(tool_help):
    """Of all that a user can start outside of the recipes."""
    for name in NAMES:
        line = [RECIPES / name / "run.sh", "--help"]
        assert len(subprocess.run(line, check=True, capture_output=True).stdout) > 100
    for name in ("render.py", "sweep.py"):
        tool_help(ROOT / "tools" / name)
    for path in (ROOT / "tools").glob("*/*.py"):
        tool_help(path)


@pytest.mark.parametrize("name", NAMES)
def test_help_of_every_program(name, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(RECIPES / name, tmp_path / name, symlinks=True))
    before = sorted(tmp_path.rglob("*"))
    yaml = next(path for path in YAMLS if path.parts[-3] == name)
    for program in PROGRAMS:
        for arguments in ([yaml, "--help"], ["--help"]):
            code, out, err = call(program, arguments, None)
            assert (code, err) == (0, "")
            assert "usage: " in out and "--rate=0.05" in out
        code, out, _ = call(program, [yaml, "--help"], None)
        keys = Document(yaml).plain()
        assert all(f"{key}:" in out for section in keys.values() for key in section)
        code, out, _ = call(program, [], None)
        assert code == 2 and "usage: " in out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_recipe_starts_its_program(monkeypatch, program, capsys):
    """The stub itself: `python train.py --help` in a recipe folder."""
    monkeypatch.chdir(RECIPES / "SpeechCommands")
    monkeypatch.syspath_prepend(str(RECIPES / "SpeechCommands"))
    monkeypatch.delitem(sys.modules, "prepare", raising=False)
    monkeypatch.setattr(sys, "argv", [f"{program}.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(f"{program}.py", run_name="__main__")
    assert not stop.value.code and "usage: " in capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "prepare", raising=False)
