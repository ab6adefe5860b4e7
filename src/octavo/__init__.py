"""octavo: a GPT that fits the hand."""
