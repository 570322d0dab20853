"""What a structure costs: counted or measured."""
