"""What sources of energy stand on: files of sysfs, counters that are followed, power that is integrated."""
