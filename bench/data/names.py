"""The data sets there are."""

DATASETS: tuple[str, ...] = ("digits", "cifar10", "cifar100")
