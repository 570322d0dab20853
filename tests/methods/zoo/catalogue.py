"""All networks: `LISTED` are the 103 that other tools' suites hold, `MORE` those that people prune besides."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from tests.methods.zoo import convolutions, drawing, joins, linear, norms, packages
from tests.methods.zoo.detection import C3, AnchorHead, C2f, C2fClassifier, FreeHead, Yolo, boxes, means
from tests.methods.zoo.entry import BATCH, Entry, Wrapped, called, images, of_image
from tests.methods.zoo.sequences import DictOutput, Recurrent


def _four(x):  # type: ignore[no-untyped-def]
    """The four inputs of `DepthwiseUNet` out of one image."""
    from torch.nn.functional import avg_pool2d

    low = avg_pool2d(x, 8).repeat(1, 8, 1, 1)
    return (x, x.flip(3), low, low.flip(2)), {}


def _yolov5() -> nn.Module:
    return Yolo(C3, AnchorHead)


def _yolov8() -> nn.Module:
    return Yolo(C2f, FreeHead)


OTO = (
    of_image("oto/batchnorm_pruning", norms.Spectral, 32, 13),
    of_image("oto/carn", lambda: Wrapped(drawing.Carn(), lambda x: ((x, 2), {})), 16),
    Entry("oto/carn_raw", drawing.Carn, lambda: ((images(16), 2), {})),
    of_image("oto/concat1", norms.JoinedNorms),
    of_image("oto/concat2", lambda: norms.JoinedNorms(deeper=True)),
    of_image("oto/convnext", lambda: norms.ConvNeXt(None)),
    of_image("oto/convnext_layerscale", lambda: norms.ConvNeXt(1e-6)),
    of_image("oto/convtr_in1", convolutions.TransposedBetween, 16),
    of_image("oto/convtr_in2", convolutions.TransposedBeside, 16),
    of_image("oto/densenet", joins.Dense),
    of_image("oto/diffmodel_cifar", lambda: drawing.Diffusion((1, 2, 2, 2), 2), 32, 4),
    of_image("oto/diffmodel_debug", lambda: drawing.Diffusion((1, 2), 1, attention=8, size=16), 16, 4),
    of_image("oto/groupconv1", lambda: Wrapped(convolutions.DepthwiseUNet(), _four, lambda y: y[0])),
    called("oto/groupconv1_raw", convolutions.DepthwiseUNet, (3, 32, 32), (3, 32, 32), (24, 4, 4), (24, 4, 4)),
    of_image("oto/groupnorm1", norms.GroupNorms, 16),
    of_image("oto/groupnorm2", norms.GroupNormTwice, 16),
    of_image("oto/groupnorm3", norms.GroupNormJoined, 16),
    of_image("oto/groupnorm4", norms.GroupNormSummed, 16),
    of_image("oto/in3", lambda: norms.InstanceNorms(prelu=False), 16),
    of_image("oto/in4", lambda: norms.InstanceNorms(prelu=True), 16),
    of_image("oto/resnet18", convolutions.ResNet18),
    of_image("oto/weightshare1", lambda: norms.JoinedNorms(shared=True)),
    of_image("oto/weightshare2", convolutions.Again, 16),
    of_image("oto/yolov5", lambda: Wrapped(_yolov5(), lambda x: ((x,), {}), boxes), 64),
    of_image("oto/yolov5_means", lambda: Wrapped(_yolov5(), lambda x: ((x,), {}), means), 64),
    of_image("oto/yolov5_raw", _yolov5, 64),
    of_image("oto/yolov8", lambda: Wrapped(_yolov8(), lambda x: ((x,), {}), boxes), 64),
    of_image("oto/yolov8_raw", _yolov8, 64),
    *(replace(e, name="oto/shufflenet(tv)") if e.name == "tv/shufflenet" else e for e in packages.OTO_TEXT),
)

OWN = (
    of_image("own/dict_output", DictOutput),
    called("own/gru", lambda: Recurrent(nn.GRU), (10, 16)),
    called("own/lstm", lambda: Recurrent(nn.LSTM), (10, 16)),
    of_image("own/unet_convT", lambda: drawing.UNet(transposed=True)),
    of_image("own/unet_upsample", lambda: drawing.UNet(transposed=False)),
)

TP = (
    of_image("tp/cascaded_concat", joins.CascadedConcat, 7, 10),
    called("tp/concat(widedeep)", linear.WideDeep, (32,)),
    of_image("tp/concat_split", joins.ConcatSplit, 7, 10),
    called("tp/customized_layer", linear.OwnLayer, (32,)),
    called("tp/fully_connected", linear.Perceptron, (32,)),
    of_image("tp/lenet", convolutions.LeNet, 28, 1),
    called("tp/multi_io_raw", linear.TwoInputs, (32,), (16,)),
    called(
        "tp/multi_io_wrapped",
        lambda: Wrapped(linear.TwoInputs(), lambda x: ((x[:, :32], x[:, 32:]), {}), lambda y: y[2]),
        (48,),
    ),
    of_image("tp/non_feature_cat", joins.RowsJoined, 7, 16),
    called("tp/reshape(convT)", linear.Reshaped, (32,)),
    of_image("tp/single_channel_output", convolutions.ThreeConvolutions),
    of_image("tp/split_raw(tuple)", joins.Split, 7, 16),
    of_image(
        "tp/split_wrapped", lambda: Wrapped(joins.Split(), lambda x: ((x,), {}), lambda y: y[0] + y[1] + y[2]), 7, 16
    ),
    of_image("tp/transpose_model", lambda: convolutions.ThreeConvolutions(8, transposed=True)),
    called("tp/unused_parameters", lambda: linear.OwnLayer(unused=True), (32,)),
    *packages.TP_TEXT,
)

LISTED: tuple[Entry, ...] = (*OTO, *OWN, *TP, *packages.TIMM, *packages.TORCHVISION)

MORE: tuple[Entry, ...] = (
    *packages.MORE_TIMM,
    *packages.MORE_TORCHVISION,
    *packages.MORE_TRANSFORMERS,
    of_image("own/unet_groupnorm_convT", lambda: drawing.UNet(transposed=True, group_norms=True)),
    of_image("own/c2f", C2fClassifier),
    of_image("own/pixelshuffle_sr", drawing.SuperResolution, 16),
    called("own/generator", drawing.Generator, (32,)),
)

ALL = {entry.name: entry for entry in (*LISTED, *MORE)}
assert BATCH == 2
assert len(ALL) == len(LISTED) + len(MORE)
