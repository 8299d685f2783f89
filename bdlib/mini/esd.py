"""A mini corpus in the layout of ESD (Zhou et al., ICASSP 2021, arXiv:2010.14794)."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from bdlib.files import seed_of
from bdlib.mini import sound
from bdlib.mini.emotion import Speaker, Style, in_room, say

RATE = 16000
IDS_AN_EMOTION = 350
"""Utterances per speaker and emotion in the real corpus; ours are the first of each range."""

# The order is that of the ids in the real corpus.
EMOTIONS = {
    "Neutral": Style(),
    "Angry": Style(10, 15, 1.15, 6, 2.0, growl=0.5, mark="!"),
    "Happy": Style(20, 40, 1.06, 3, 1.0, mark="!"),
    "Sad": Style(-10, -33, 0.88, -6, -2.5, shake=0.3, breath=0.05),
    "Surprise": Style(32, 50, 0.96, 1, 0.0, breath=0.02, mark="?"),
}
# Names and genders are those of the real corpus: 0001, 0002, 0015 and 0016 are female.
SPEAKERS = {
    "0001": Speaker("cmn+f2", 47, 185, 1.00),
    "0002": Speaker("cmn+linda", 40, 175, 0.95),
    "0004": Speaker("cmn+m3", 52, 190, 1.04),
    "0005": Speaker("cmn+m8", 60, 170, 0.97),
    "0011": Speaker("en-us+m2", 44, 165, 0.97),
    "0012": Speaker("en-gb-x-rp+m7", 56, 180, 1.05),
    "0015": Speaker("en-us+f4", 44, 185, 1.03),
    "0016": Speaker("en-gb-scotland+Annie", 42, 165, 0.97),
}
ENGLISH = (
    "The train leaves before the sun is up",
    "She put the letters on the kitchen table",
    "We walked along the river after dinner",
    "My brother found a coin in the garden",
    "The shop on the corner is closed today",
    "They painted the old boat dark green",
    "He forgot his umbrella on the bus again",
    "The children are waiting at the gate",
    "I will call you when the rain stops",
    "There is a new map on the wall",
    "Our neighbour keeps bees behind the house",
    "The bread is still warm from the oven",
    "You left the lamp on all night",
    "A letter came for you this morning",
    "The cat is sleeping on my coat",
    "We need more paper for the printer",
    "The bridge was built by two brothers",
    "Nobody told me about the party",
    "The last page of the book is missing",
    "She is learning to play the violin",
    "The water in the lake is very cold",
    "His sister works at the hospital",
    "They moved to a town by the sea",
    "The clock in the hall is running slow",
)
CHINESE = (
    "火车早上六点就开了",
    "她把信放在桌子上了",
    "晚饭后我们去河边走走",
    "弟弟在花园里找到硬币",
    "街角的商店今天不开门",
    "老船被漆成了深绿色",
    "他又把雨伞忘在车上了",
    "孩子们在门口等你",
    "雨停了我就打电话",
    "墙上有一张新地图",
    "邻居在屋后养了蜜蜂",
    "面包从炉子里刚拿出来",
    "你昨天晚上没有关灯",
    "今天早上来了一封信",
    "猫睡在我的大衣上",
    "打印机里没有纸了",
    "这座桥是兄弟俩修的",
    "没有人告诉我这件事",
    "这本书少了最后一页",
    "姐姐正在学拉小提琴",
    "湖里的水还是很凉",
    "他的妹妹在医院工作",
    "他们搬到海边去住了",
    "客厅的钟慢了五分钟",
)


def write(
    folder: Path,
    seed: int,
    nested: bool = False,
    speakers: tuple[str, ...] = tuple(SPEAKERS),
    texts: int = 24,
) -> dict[str, int]:
    """Write the corpus.

    Parameters
    ----------
    folder : Path
        Where to; made if missing.
    seed : int
        Decides the small differences between utterances, and the noise.
    nested : bool
        Put the files into ``train``, ``evaluation`` and ``test`` below each emotion.
    speakers : tuple of str
        Names of SPEAKERS.
    texts : int
        Utterances per speaker and emotion, at most 24.

    Returns
    -------
    dict
        Clips a language.
    """
    counts = {"Chinese": 0, "English": 0}
    clips = len(speakers) * len(EMOTIONS) * texts
    with tqdm(total=clips, desc="ESD mini", unit="clip", disable=None) as bar:
        for speaker in speakers:
            language, lines = ("English", ENGLISH) if speaker > "0010" else ("Chinese", CHINESE)
            transcript = []
            for order, emotion in enumerate(EMOTIONS):
                for index, text in enumerate(lines[:texts]):
                    name = f"{speaker}_{order * IDS_AN_EMOTION + index + 1:06d}"
                    part = _part(index) if nested else ""
                    path = folder / speaker / emotion / part / f"{name}.wav"
                    sound.write(path, render(speaker, emotion, text, seed), RATE)
                    mark = "." if language == "English" else "。"
                    transcript.append(f"{name}\t{text}{mark}\t{emotion}\n")
                    counts[language] += 1
                    bar.update()
            (folder / speaker / f"{speaker}.txt").write_text("".join(transcript), "utf-8")
    return counts


def render(speaker: str, emotion: str, text: str, seed: int) -> np.ndarray:
    """Say a text in an emotion: (T,) at 16 kHz, about 1.5 to 3.5 s."""
    rng = np.random.Generator(np.random.PCG64(seed_of("mini ESD", speaker, emotion, text, seed)))
    spoken = say(text, SPEAKERS[speaker], EMOTIONS[emotion], RATE, rng)
    return in_room(spoken, RATE, rng.uniform(0.08, 0.2), rng.uniform(0.1, 0.25), rng)


def _part(index: int) -> str:
    """Name the part of the nested layout, which puts the first ids into evaluation, then test."""
    return "evaluation" if index < 2 else "test" if index < 5 else "train"
