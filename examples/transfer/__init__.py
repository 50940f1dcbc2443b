"""How far frozen features carry: other data, by logistic regression."""
