"""What the scores themselves are worth: whether they tell better faces from worse ones."""
