"""The data sets there are."""

CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
"""How many classes each has."""

DATASETS: tuple[str, ...] = tuple(CLASSES)
