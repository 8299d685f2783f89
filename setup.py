"""Package bdlib, with the yaml files that all recipes share.

Data sets' recipes and the tools are used from a clone of the repository.
"""

from setuptools import find_packages, setup

extras = {
    "scan": [
        "onnxruntime>=1.21"
    ],  # reads a checkpoint of ONNX, too, and no other file: an option since 1.21
    "huggingface": ["transformers"],  # its audio classifiers as checkpoints
    "mini": ["espeakng-loader"],  # GPL; offline corpora for the quickstart and the tests
    "sweep": ["ray"],
    "effects": ["pedalboard"],  # GPL; the JingleBack effect chains
    "room": ["pyroomacoustics"],  # responses of rooms by the image method
    "stealth": ["pesq", "pystoi"],
    "bench": [
        "adversarial-robustness-toolbox==1.20.1",
        "cleanlab==2.9.0",
    ],  # tools/bench/{filters,scan}.py
}
# The tests use all of them. pesq comes as source: where nothing compiles it, two tests are skipped.
extras["dev"] = [name for names in extras.values() for name in names if name != "pesq"]
extras["dev"] += ["codespell", "hypothesis", "pre-commit", "pytest", "pytest-xdist", "ruff"]

setup(
    name="bdlib",
    version="0.1.0",
    description="Backdoors in speech classifiers: recipes and a shared library",
    license="Apache-2.0",
    packages=[*find_packages(include=["bdlib", "bdlib.*"]), "bdlib.recipes_common"],
    package_dir={"bdlib.recipes_common": "recipes/common"},  # found by `bdlib.files.COMMON`
    package_data={
        "bdlib": ["py.typed"],
        "bdlib.recipes_common": ["*.yaml", "*/*.yaml"],
        "bdlib.report": ["page.js"],
        "bdlib.scanning": ["page.css", "page.js"],
    },
    entry_points={"console_scripts": ["bdlib = bdlib.cli.main:main"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        # The three must match: torch 2.11.0 loads neither torchaudio 2.11.1 nor one for another CUDA.
        "torch==2.11.0",
        "torchaudio==2.11.0",
        "torchvision==0.26.0",
        "speechbrain==1.1.2",
        "hyperpyyaml==1.2.3",
        "sentencepiece",  # imported by speechbrain
        "matplotlib",
        "pandas",
        "rich",
        "safetensors",
        "scikit-learn",
        "scipy",
        "soundfile",
        "tqdm",
    ],
    extras_require=extras,
)
