"""The data sets that have a name."""

CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100, "tiny-imagenet": 200, "imagenet": 1000}
"""How many classes each has."""

SIZES = {"tiny-imagenet": 64, "imagenet": 224}
"""Height and width in pixels, where it is not 32."""

FOLDER = "folder"
"""Stands for what lies in the data folder itself."""

DATASETS: tuple[str, ...] = (*CLASSES, FOLDER)

PUBLISHED = ("digits", "cifar10", "cifar100")
"""Of which every image is known, so that a table has nothing to say of them."""

CROP_FLIP, NO_AUGMENTATION = "crop-flip", "none"
AUGMENTATIONS = (NO_AUGMENTATION, CROP_FLIP, "resized-crop", "trivial-augment", "mixup", "cutmix")
"""What can be done to training images, by name."""
