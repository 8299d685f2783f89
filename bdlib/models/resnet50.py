"""Base of MVJ and VAE-PLS: ResNet50 on a magnitude spectrogram, as in Armory's audio scenarios."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from bdlib.features import FrontEnd
from bdlib.models.classifier import SpeechClassifier


class ResNet50Classifier(SpeechClassifier):
    """torchvision's ResNet50 with one input channel; 23.5 million parameters for 12 classes.

    All weights of two or more dimensions are drawn Xavier-uniform, as in the PyTorch port that
    the authors of MVJ used. Lengths are ignored: clips are padded to one length.

    Arguments
    ---------
    front_end : FrontEnd
        Features, taken as a one-channel image (T, F).
    n_classes : int
        C.
    """

    def __init__(self, front_end: FrontEnd, n_classes: int) -> None:
        super().__init__(front_end)
        self.net = resnet50(weights=None, num_classes=n_classes)
        self.net.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        for parameter in self.net.parameters():
            if parameter.dim() >= 2:
                nn.init.xavier_uniform_(parameter)
        self.head, self.net.fc = self.net.fc, nn.Identity()
        self.net.to(memory_format=torch.channels_last)

    def embed(self, features: Tensor, lens: Tensor) -> Tensor:
        """(B, T, F) to (B, 2048), the average-pooled last block."""
        return self.net(features[:, None])
