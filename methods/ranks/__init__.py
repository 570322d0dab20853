"""The processes of a distributed training: what they tell each other, so that all of them do what one alone would do."""
